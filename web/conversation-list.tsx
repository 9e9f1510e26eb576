import type { ConversationSummary } from "./history-api.ts";
import { Icon } from "./icons.tsx";
import { conversationAddress, newChatAddress } from "./route.ts";

interface Props {
  conversations: ConversationSummary[];
  current: string | undefined;
  hasMore: boolean;
  onMore: () => void;
  onChoose: () => void;
}

/** The side list, newest first. Plain links: the browser's own keys and history work. */
export function ConversationList({ conversations, current, hasMore, onMore, onChoose }: Props) {
  return (
    <nav className="conversations" aria-label="Conversations">
      <a className="new-chat" href={newChatAddress} onClick={onChoose}>
        <Icon name="plus" />
        New chat
      </a>
      <ul>
        {conversations.map(({ id, title }) => (
          <li key={id}>
            <a
              href={conversationAddress(id)}
              aria-current={id === current ? "page" : undefined}
              title={title}
              onClick={onChoose}
            >
              {title}
            </a>
          </li>
        ))}
      </ul>
      {hasMore && (
        <button type="button" className="more" onClick={onMore}>
          Show older
        </button>
      )}
    </nav>
  );
}
