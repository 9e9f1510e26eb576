/** What the supervisor takes for a group: it says that it is ready, and ends when it is told to. */
process.on("SIGTERM", () => process.exit(0));
process.on("disconnect", () => process.exit(1));
setInterval(() => {}, 1_000);
process.send?.({
  ...{ type: "ready", groupId: process.env["AXON_GROUP_ID"] ?? "", revision: "r1" },
  ranks: [],
});
