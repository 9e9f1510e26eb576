import { memo } from "react";
import { Answer } from "./answer.tsx";
import { isRunning, type TurnView, waitingFor } from "./chat-state.ts";
import { CopyButton } from "./copy-button.tsx";

interface Props {
  turn: TurnView;
  onRetry: (prompt: string) => void;
}

/** One question and its answer. */
export const TurnItem = memo(function TurnItem({ turn, onRetry }: Props) {
  const running = isRunning(turn);
  const waiting = waitingFor(turn);
  return (
    <article className="turn" aria-busy={running}>
      <h2 className="visually-hidden">You asked</h2>
      <div className="question">{turn.prompt}</div>
      <h2 className="visually-hidden">Axon answered</h2>
      <div className="answer" data-testid="answer" data-status={turn.status}>
        <Answer text={turn.answer} />
        {running && <span className="caret" role="presentation" />}
        {waiting !== undefined && (
          <span className="hint" role="status">
            {waiting}
          </span>
        )}
      </div>
      {turn.error && (
        <div className="problem" role="alert">
          <span>{turn.error.message}</span>
          {turn.error.retryable && (
            <button type="button" onClick={() => onRetry(turn.prompt)}>
              Ask again
            </button>
          )}
        </div>
      )}
      {!running && <Footer turn={turn} />}
    </article>
  );
});

function Footer({ turn }: { turn: TurnView }) {
  const { answer, figures, revision, status, turnId } = turn;
  return (
    <footer className="figures">
      {answer !== "" && <CopyButton label="Copy the answer" text={() => answer} />}
      {status === "cancelled" && <span className="stopped">stopped</span>}
      {figures && (
        <span>
          {figures.tokens} tokens
          {figures.tokensPerSecond !== undefined && ` · ${Math.round(figures.tokensPerSecond)}/s`}
          {` · first after ${Math.round(figures.firstTokenMs)} ms`}
        </span>
      )}
      {revision && <span>{revision}</span>}
      {turnId && <code title="The turn's id, for npx axon log">{turnId}</code>}
    </footer>
  );
}
