/** Every limit of the tool `fetch`, with its unit in its name. */
export const FETCH_LIMITS = {
  /** Of a body after it is unpacked; what is beyond it is cut off. */
  bodyBytesMax: 1_024 * 1_024,
  headerBytesMax: 32 * 1_024,
  urlLengthMax: 4_096,
  redirectsMax: 5,
  /** One fetch with all its redirects. */
  timeoutMs: 30_000,
  connectMs: 10_000,
  /** Per host and port. */
  connectionsMax: 8,
} as const
