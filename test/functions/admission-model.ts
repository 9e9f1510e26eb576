import type { Priority } from "../../events/turn-events.ts";

/** What admission decides, written a second time, plainly and without Redis. */

export interface ModelTurn {
  turnId: string;
  tenantId: string;
  priority: Priority;
  requestedAt: number;
}

export interface ModelSettings {
  room: number;
  tenantInFlight: number;
  tenantWeights: Readonly<Record<string, number>>;
}

/** By asking, and where two were asked in one ms by name. */
const inOrder = (a: ModelTurn, b: ModelTurn) =>
  a.requestedAt - b.requestedAt || (a.turnId < b.turnId ? -1 : 1);

export class AdmissionModel {
  readonly settings: ModelSettings;
  readonly inFlight = new Map<string, ModelTurn>();
  readonly held = new Map<string, ModelTurn>();
  #credits = new Map<string, number>();
  #sinceBatch = 0;

  constructor(settings: ModelSettings) {
    this.settings = settings;
  }

  inFlightOf(tenantId: string): number {
    return [...this.inFlight.values()].filter((turn) => turn.tenantId === tenantId).length;
  }

  heldOf(tenantId: string, priority: Priority): ModelTurn[] {
    return [...this.held.values()]
      .filter((turn) => turn.tenantId === tenantId && turn.priority === priority)
      .sort(inOrder);
  }

  admit(turn: ModelTurn, isUnderWay: boolean): string[] {
    const { turnId } = turn;
    if (isUnderWay) {
      const before = this.held.get(turnId) ?? this.inFlight.get(turnId) ?? turn;
      this.held.delete(turnId);
      this.inFlight.set(turnId, before);
    } else if (!this.held.has(turnId) && !this.inFlight.has(turnId)) {
      this.held.set(turnId, turn);
    }
    return this.release();
  }

  leave(turnId: string): string[] {
    this.held.delete(turnId);
    this.inFlight.delete(turnId);
    return this.release();
  }

  withdraw(turnId: string): boolean {
    return this.held.delete(turnId);
  }

  loseAll(): void {
    this.held.clear();
    this.inFlight.clear();
    this.#credits.clear();
    this.#sinceBatch = 0;
  }

  release(): string[] {
    const released: string[] = [];
    if (this.held.size === 0 || this.inFlight.size >= this.settings.room) return released;
    while (this.inFlight.size < this.settings.room) {
      const priority = this.#nextPriority();
      if (priority === undefined) break;
      const turn = this.heldOf(this.#nextTenant(priority), priority)[0];
      if (turn === undefined) throw new Error("a tenant without turns was picked");
      this.held.delete(turn.turnId);
      this.inFlight.set(turn.turnId, turn);
      released.push(turn.turnId);
    }
    for (const key of this.#credits.keys()) {
      const space = key.indexOf(" ");
      const [priority, tenantId] = [key.slice(0, space) as Priority, key.slice(space + 1)];
      if (this.heldOf(tenantId, priority).length === 0) this.#credits.delete(key);
    }
    return released;
  }

  #mayGo(priority: Priority): string[] {
    const tenants = [...this.held.values()]
      .filter((turn) => turn.priority === priority)
      .map((turn) => turn.tenantId)
      .filter((tenantId) => this.inFlightOf(tenantId) < this.settings.tenantInFlight);
    return [...new Set(tenants)].sort((a, b) =>
      encodeURIComponent(a) < encodeURIComponent(b) ? -1 : 1,
    );
  }

  #nextPriority(): Priority | undefined {
    const [interactive, batch] = [this.#mayGo("interactive"), this.#mayGo("batch")];
    if (batch.length === 0) return interactive.length > 0 ? "interactive" : undefined;
    if (interactive.length === 0 || this.#sinceBatch >= 7) {
      this.#sinceBatch = 0;
      return "batch";
    }
    this.#sinceBatch++;
    return "interactive";
  }

  #nextTenant(priority: Priority): string {
    const tenants = this.#mayGo(priority);
    const weightOf = (tenantId: string) => this.settings.tenantWeights[tenantId] ?? 1;
    const creditOf = (tenantId: string) => this.#credits.get(`${priority} ${tenantId}`) ?? 0;
    const give = (tenantId: string, credit: number) =>
      this.#credits.set(`${priority} ${tenantId}`, creditOf(tenantId) + credit);
    for (const tenantId of tenants) give(tenantId, weightOf(tenantId));
    const best = tenants.reduce((a, b) => (creditOf(b) > creditOf(a) ? b : a));
    give(best, -tenants.reduce((sum, tenantId) => sum + weightOf(tenantId), 0));
    return best;
  }
}
