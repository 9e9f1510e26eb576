/** Everything that TypeScript calls, in the build "pairs". */
export { attend, storeKeyValue } from "./attention.as";
export { add, largest, mass, rmsNorm, rotate, swiglu } from "./elementwise.as";
export { multiplyRow, multiplyRows, quantizeRows } from "./int8-pairs.as";
export { probeDot } from "./machine.as";
export { packPanel, unpackOutput } from "./panel.as";
