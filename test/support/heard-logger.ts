import { Logger } from "@aws-lambda-powertools/logger";

/** A logger that keeps what it was told at any level, as the text that it would write. */
export class HeardLogger extends Logger {
  readonly lines: string[] = [];

  constructor() {
    super({ serviceName: "test", logLevel: "DEBUG" });
  }

  get text(): string {
    return this.lines.join("\n");
  }

  override printLog(...[, item]: Parameters<Logger["printLog"]>): void {
    item.prepareForPrint();
    this.lines.push(JSON.stringify(item.getAttributes()));
  }
}
