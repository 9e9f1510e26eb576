import { type RefObject, useEffect } from "react";

/**
 * Sets a form's fields to what the address says whenever that changes, and leaves the fields themselves in
 * place: whoever is in one of them stays there.
 */
export function useFormValues(
  form: RefObject<HTMLFormElement | null>,
  values: Readonly<Record<string, string | undefined>>,
): void {
  const asked = JSON.stringify(values);
  useEffect(() => {
    for (const [name, value] of Object.entries(JSON.parse(asked) as Record<string, string>)) {
      const field = form.current?.elements.namedItem(name);
      if (field instanceof HTMLInputElement || field instanceof HTMLSelectElement) {
        field.value = value;
      }
    }
  }, [form, asked]);
}

/** A field's text, without space around it; undefined where it is empty. */
export function fieldOf(form: HTMLFormElement, name: string): string | undefined {
  const value = new FormData(form).get(name);
  const text = typeof value === "string" ? value.trim() : "";
  return text === "" ? undefined : text;
}
