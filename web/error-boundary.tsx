import { Component, type ReactNode } from "react";

interface Props {
  /** What could not be shown. */
  message: string;
  children: ReactNode;
}

/** Says what went wrong in its part of the page, and leaves the rest of it standing. */
export class ErrorBoundary extends Component<Props, { error: unknown }> {
  override state: { error: unknown } = { error: undefined };

  static getDerivedStateFromError(error: unknown): { error: unknown } {
    return { error: error ?? new Error("unknown") };
  }

  override render(): ReactNode {
    const { error } = this.state;
    if (error === undefined) return this.props.children;
    return (
      <div className="fatal" role="alert">
        <p>
          {this.props.message} {error instanceof Error ? error.message : String(error)}
        </p>
        <button type="button" className="button" onClick={() => location.reload()}>
          Reload the page
        </button>
      </div>
    );
  }
}
