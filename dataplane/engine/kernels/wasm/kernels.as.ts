/** Everything that TypeScript calls. */
export { attend, storeKeyValue } from "./attention.as";
export { add, largest, mass, rmsNorm, rotate, swiglu } from "./elementwise.as";
export { multiplyRow, multiplyRows, packPanel, quantizeRows, unpackOutput } from "./int8-matrix.as";
export { probeDot } from "./machine.as";
