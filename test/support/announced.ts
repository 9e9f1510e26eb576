/** What a group says of itself that runs nothing and is not told to drain. */
export const announced = (revision: string, slots: number) => ({
  describe: () => ({
    ...{ revision, leaderId: "leader", epoch: 1, ranks: 1, slots },
    ...{ running: 0, isAccepting: true, tokens: 0, kvUse: undefined },
  }),
  drained: () => {},
  rotated: () => {},
});
