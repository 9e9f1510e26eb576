import type { Arrivals } from "../statistics.ts";

/**
 * Reads a completion as plainly as can be: the bytes of its events, cut at the empty lines between them. An
 * event is taken for a token: vLLM sends one for each, but for those that it had ready at the same time.
 */
export async function readDirectly(url: string, body: Record<string, unknown>): Promise<Arrivals> {
  const begun = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, return_token_ids: true }),
  });
  if (!response.ok || response.body === null) throw new Error(`${url} answered ${response.status}`);
  const arrivals: Arrivals = [];
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of response.body) {
    const events = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
    rest = events.pop() ?? "";
    const at = performance.now() - begun;
    for (const event of events) {
      for (let i = 0; i < tokensIn(event); i++) arrivals.push(at);
    }
  }
  return arrivals;
}

function tokensIn(event: string): number {
  const data = event.slice("data: ".length);
  if (data === "[DONE]") return 0;
  const { choices } = JSON.parse(data) as { choices?: { token_ids?: number[] | null }[] };
  return choices?.[0]?.token_ids?.length ?? 0;
}
