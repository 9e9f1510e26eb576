import { useCallback, useEffect, useState } from "react";
import { isRunning, newThread } from "./chat-state.ts";
import { Composer } from "./composer.tsx";
import type { Config } from "./config.ts";
import { ConversationList } from "./conversation-list.tsx";
import { ModelPicker } from "./model-picker.tsx";
import { useRoute } from "./route.ts";
import { ThreadView } from "./thread-view.tsx";
import { TopBar } from "./top-bar.tsx";
import { useChat } from "./use-chat.ts";
import { useMayOperate } from "./use-may-operate.ts";

export function App({ config }: { config: Config }) {
  const route = useRoute();
  const conversationId = route.view === "chat" ? route.conversationId : undefined;
  const [problem, setProblem] = useState<string>();
  const [drawerOpen, setDrawerOpen] = useState(false);
  const [model, setModel] = useState<string>();
  const chat = useChat(config, setProblem);
  const { state, show } = chat;
  const mayOperate = useMayOperate(config);

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
      <TopBar
        title={title}
        connection={state.connection}
        drawerOpen={drawerOpen}
        onDrawer={() => setDrawerOpen(!drawerOpen)}
        mayOperate={mayOperate}
      >
        <ModelPicker config={config} model={model} onChoose={setModel} />
      </TopBar>
      <ConversationList
        conversations={state.conversations}
        current={conversationId}
        hasMore={state.next !== null}
        onMore={chat.loadMore}
        onChoose={() => setDrawerOpen(false)}
      />
      <main>
        {problem !== undefined && <Problem text={problem} />}
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

function Problem({ text }: { text: string }) {
  return (
    <div className="problem" role="alert">
      <span>{text}</span>
      <button type="button" onClick={() => location.reload()}>
        Reload
      </button>
    </div>
  );
}

function focusPrompt() {
  document.getElementById("prompt")?.focus();
}
