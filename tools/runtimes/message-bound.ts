/** Counts the bytes of one HTTP message while they arrive: a whole body, or each event of an event stream. */

const NEWLINES = ['\n\n', '\r\n\r\n', '\r\r'] as const
/** A separator may lie across two chunks. */
const SEPARATOR_BYTES_MAX = 4

export class MessageBound {
  private readonly bytesMax: number
  private readonly isStream: boolean
  private bytes = 0
  private before = ''

  constructor(bytesMax: number, isStream: boolean) {
    this.bytesMax = bytesMax
    this.isStream = isStream
  }

  /** True as soon as one message is too large. */
  isPassedBy(chunk: Uint8Array): boolean {
    this.bytes += chunk.length
    if (this.isStream) this.bytes = Math.min(this.bytes, this.sinceEvent(chunk))
    return this.bytes > this.bytesMax
  }

  /** Bytes after the last end of an event, Infinity if none ends here. */
  private sinceEvent(chunk: Uint8Array): number {
    const view = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    const seam = this.before + view.toString('latin1', 0, SEPARATOR_BYTES_MAX - 1)
    this.before = (this.before + view.toString('latin1', Math.max(0, view.length - SEPARATOR_BYTES_MAX + 1))).slice(
      1 - SEPARATOR_BYTES_MAX,
    )
    const last = Math.max(...NEWLINES.map((newlines) => view.lastIndexOf(newlines)))
    if (last !== -1) return view.length - last
    return NEWLINES.some((newlines) => seam.includes(newlines)) ? view.length : Number.POSITIVE_INFINITY
  }
}
