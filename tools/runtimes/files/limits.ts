/** Every limit of the runtime `files`, with its unit in its name. */
export const FILES_LIMITS = {
  /** Of a file that is read or written. */
  fileBytesMax: 1_024 * 1_024,
  /** Of one listing; a folder that has more is listed in part. */
  entriesMax: 1_000,
  pathLengthMax: 1_024,
  pathDepthMax: 32,
} as const
