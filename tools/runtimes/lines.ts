/** Cuts a byte stream into lines of bounded length. A longer line is dropped while it is read, so that it never stands in memory. */

const NEWLINE = 10
/** Bytes kept of both ends of a line that was dropped. */
const END_BYTES = 256

export interface LineHandlers {
  readonly onLine: (line: string) => void
  /** A line longer than the bound: its first and its last bytes. */
  readonly onOversized: (head: string, tail: string) => void
}

export class Lines {
  private readonly bytesMax: number
  private readonly handlers: LineHandlers
  private parts: Buffer[] = []
  private bytes = 0
  private dropped: { readonly head: string; tail: Buffer } | undefined

  constructor(bytesMax: number, handlers: LineHandlers) {
    this.bytesMax = bytesMax
    this.handlers = handlers
  }

  push(chunk: Buffer): void {
    for (let from = 0; from < chunk.length; ) {
      const end = chunk.indexOf(NEWLINE, from)
      this.add(chunk.subarray(from, end === -1 ? chunk.length : end))
      if (end === -1) return
      this.finish()
      from = end + 1
    }
  }

  private add(part: Buffer): void {
    if (this.dropped) {
      this.dropped.tail = lastBytes([this.dropped.tail, part])
      return
    }
    this.parts.push(part)
    this.bytes += part.length
    if (this.bytes <= this.bytesMax) return
    this.dropped = { head: firstBytes(this.parts), tail: lastBytes(this.parts) }
    this.parts = []
    this.bytes = 0
  }

  private finish(): void {
    const { dropped, parts } = this
    this.dropped = undefined
    this.parts = []
    this.bytes = 0
    if (dropped) this.handlers.onOversized(dropped.head, dropped.tail.toString('utf8'))
    else this.handlers.onLine((parts.length === 1 ? parts[0]! : Buffer.concat(parts)).toString('utf8').replace(/\r$/, ''))
  }
}

function firstBytes(parts: readonly Buffer[]): string {
  return Buffer.concat(parts).subarray(0, END_BYTES).toString('utf8')
}

/** A copy, so that the large buffers behind the parts can go. */
function lastBytes(parts: readonly Buffer[]): Buffer {
  const all = Buffer.concat(parts.map((part) => part.subarray(-END_BYTES)))
  return Buffer.from(all.subarray(-END_BYTES))
}
