import { useCallback, useEffect, useState } from "react";
import { isRunning, newThread } from "./chat-state.ts";
import { Composer } from "./composer.tsx";
import type { Config } from "./config.ts";
import { ConversationList } from "./conversation-list.tsx";
import { Icon } from "./icons.tsx";
import { ModelPicker } from "./model-picker.tsx";
import { useRoute } from "./route.ts";
import { useTheme } from "./theme.ts";
import { ThreadView } from "./thread-view.tsx";
import { useChat } from "./use-chat.ts";

export function App({ config }: { config: Config }) {
  const { conversationId } = useRoute();
  const [theme, toggleTheme] = useTheme();
  const [problem, setProblem] = useState<string>();
  const [drawerOpen, setDrawerOpen] = useState(false);
  const [model, setModel] = useState<string>();
  const chat = useChat(config, setProblem);
  const { state, show } = chat;

  useEffect(() => {
    if (conversationId !== undefined) show(conversationId);
  }, [conversationId, show]);

  const thread = state.threads[conversationId ?? newThread];
  const turns = (thread?.turnKeys ?? []).flatMap((key) => state.turns[key] ?? []);
  const last = turns.at(-1);
  const title = state.conversations.find((each) => each.id === conversationId)?.title;
  const ask = useCallback(
    (prompt: string) => chat.ask(conversationId, prompt, model),
    [chat.ask, conversationId, model],
  );

  useEffect(() => {
    document.title = title === undefined ? "Axon" : `${title} · Axon`;
  }, [title]);

  return (
    <div className="app" data-drawer={drawerOpen ? "open" : "closed"}>
      <button type="button" className="skip" onClick={focusPrompt}>
        Skip to the message box
      </button>
      <header className="bar">
        <button
          type="button"
          className="quiet drawer-button"
          aria-label={drawerOpen ? "Hide the conversations" : "Show the conversations"}
          aria-expanded={drawerOpen}
          onClick={() => setDrawerOpen(!drawerOpen)}
        >
          <Icon name={drawerOpen ? "close" : "menu"} />
        </button>
        <span className="brand">Axon</span>
        <span className="title">{title}</span>
        <Connection state={state.connection} />
        <ModelPicker config={config} model={model} onChoose={setModel} />
        <button
          type="button"
          className="quiet"
          onClick={toggleTheme}
          aria-label={theme === "dark" ? "Use light colours" : "Use dark colours"}
        >
          <Icon name={theme === "dark" ? "sun" : "moon"} />
        </button>
      </header>
      <ConversationList
        conversations={state.conversations}
        current={conversationId}
        hasMore={state.next !== null}
        onMore={chat.loadMore}
        onChoose={() => setDrawerOpen(false)}
      />
      <main>
        {problem !== undefined && (
          <div className="problem" role="alert">
            <span>{problem}</span>
            <button type="button" onClick={() => location.reload()}>
              Reload
            </button>
          </div>
        )}
        <ThreadView key={conversationId ?? newThread} thread={thread} turns={turns} onAsk={ask} />
        <Composer
          key={`composer-${conversationId ?? newThread}`}
          running={isRunning(last)}
          lastPrompt={last?.prompt}
          onAsk={ask}
          onStop={() => last && chat.stop(last.key)}
        />
        <p className="visually-hidden" aria-live="polite">
          {last !== undefined && !isRunning(last) ? "The answer is complete." : ""}
        </p>
      </main>
    </div>
  );
}

function focusPrompt() {
  document.getElementById("prompt")?.focus();
}

function Connection({ state }: { state: string }) {
  if (state !== "reconnecting") return null;
  return (
    <span className="connection" role="status">
      Reconnecting…
    </span>
  );
}
