/** The last lines of a log file, for the error that explains why its writer ended. */
import { open } from 'node:fs/promises'

const TAIL_BYTES = 8_192

/** Reads no more than the last 8 KiB and nothing before byte `since`. A file that is not there has no lines. */
export async function readLogTail(path: string, since = 0, lines = 8): Promise<string[]> {
  const file = await open(path, 'r').catch(() => undefined)
  if (!file) return []
  try {
    const { size } = await file.stat()
    const start = Math.max(size >= since ? since : 0, size - TAIL_BYTES)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.max(size - start, 0)), 0, size - start, start)
    return buffer
      .toString('utf8', 0, bytesRead)
      .split('\n')
      .filter((line) => line.trim() !== '')
      .slice(-lines)
  } finally {
    await file.close()
  }
}
