/** JSON that keeps 64-bit integers exact, and looks as the C++ engines write it. */
export {
  JSON_DEPTH_MAX,
  JSON_INTEGER_MAX,
  JSON_INTEGER_MIN,
  withNewline,
  type Json64,
  type JsonObject,
} from './json-value.ts';
export { parseJson64 } from './parse-json64.ts';
export { stringifyJson64 } from './stringify-json64.ts';
