/** Server-sent events as the body of a response. A reader that is slow or gone holds up nobody. */
import { HTTP_LIMITS } from '../limits.ts'

const encoder = new TextEncoder()

export class EventStream {
  readonly body: ReadableStream<Uint8Array>
  /** Aborts when the reader is gone. */
  readonly left: AbortSignal
  private controller!: ReadableStreamDefaultController<Uint8Array>
  private readonly leaving = new AbortController()
  private readonly timer: NodeJS.Timeout
  private isOpen = true

  constructor(quietMs: number = HTTP_LIMITS.quietMs) {
    this.left = this.leaving.signal
    this.body = new ReadableStream(
      {
        start: (controller) => {
          this.controller = controller
        },
        cancel: () => {
          this.end()
          this.leaving.abort()
        },
      },
      { highWaterMark: HTTP_LIMITS.unsentEventsMax },
    )
    this.timer = setInterval(() => !this.isCongested && this.write(': still at work\n\n'), quietMs)
    this.timer.unref()
  }

  /** The reader has not taken what was sent: what can wait should wait. */
  get isCongested(): boolean {
    return (this.controller.desiredSize ?? 0) <= 0
  }

  /** One line per event, whatever is in it. */
  send(event: object | '[DONE]'): void {
    this.write(`data: ${typeof event === 'string' ? event : oneLine(event)}\n\n`)
    this.timer.refresh()
  }

  close(): void {
    if (this.isOpen) this.controller.close()
    this.end()
  }

  private end(): void {
    this.isOpen = false
    clearInterval(this.timer)
  }

  private write(text: string): void {
    if (this.isOpen) this.controller.enqueue(encoder.encode(text))
  }
}

/** JSON escapes the line breaks of the format; these are line breaks to readers that split text as Python does (httpx, requests). */
function oneLine(event: object): string {
  return JSON.stringify(event).replaceAll(
    /[\u0085\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
