import { type FormEvent, useMemo, useState } from "react";
import type { StageConfig } from "./config.ts";
import { Page } from "./page.tsx";

/** Of the tab: whoever closes it has signed out. */
const storageKey = "axon.credential";

/** The page; before it, where the stage gives out no credential, the question for one. */
export function SignIn({ stage }: { stage: StageConfig }) {
  const [credential, setCredential] = useState(
    () => stage.credential ?? sessionStorage.getItem(storageKey) ?? undefined,
  );
  if (credential !== undefined) return <SignedIn stage={stage} credential={credential} />;
  return (
    <CredentialForm
      apiUrl={stage.apiUrl}
      onAccepted={(accepted) => {
        sessionStorage.setItem(storageKey, accepted);
        setCredential(accepted);
      }}
    />
  );
}

function SignedIn({ stage, credential }: { stage: StageConfig; credential: string }) {
  const config = useMemo(() => ({ ...stage, credential }), [stage, credential]);
  return <Page config={config} />;
}

function CredentialForm({
  apiUrl,
  onAccepted,
}: {
  apiUrl: string;
  onAccepted: (credential: string) => void;
}) {
  const [problem, setProblem] = useState<string>();
  const [isAsking, setIsAsking] = useState(false);

  async function submit(event: FormEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    const entered = new FormData(event.currentTarget).get("credential");
    const credential = typeof entered === "string" ? entered.trim() : "";
    setIsAsking(true);
    const refusal = await refusalOf(apiUrl, credential);
    setIsAsking(false);
    if (refusal === undefined) onAccepted(credential);
    else setProblem(refusal);
  }

  return (
    <form className="sign-in" onSubmit={(event) => void submit(event)}>
      <h1>Axon</h1>
      <label htmlFor="credential">API key or token</label>
      <input
        id="credential"
        name="credential"
        type="password"
        autoComplete="current-password"
        required
      />
      <button type="submit" disabled={isAsking}>
        {isAsking ? "Signing in…" : "Sign in"}
      </button>
      {problem !== undefined && <p role="alert">{problem}</p>}
    </form>
  );
}

/** Why a credential is not good; undefined when it is. */
async function refusalOf(apiUrl: string, credential: string): Promise<string | undefined> {
  try {
    const response = await fetch(`${apiUrl.replace(/\/$/, "")}/models`, {
      headers: { authorization: `Bearer ${credential}` },
    });
    if (response.ok) return undefined;
    if (response.status === 401) return "This key is not known here. Check it and try again.";
    return `Axon answered ${response.status}. Try again in a moment.`;
  } catch {
    return "Axon did not answer. Check your connection and try again.";
  }
}
