/**
 * Which part of an answer may be streamed while it grows, so that what was streamed is what the task gives in the end. The text comes as
 * progress, which may begin in the middle, be repeated or get lost; the result alone counts. Pure.
 */
import { KaosError } from '../../bus/wire/errors.ts'
import type { ProgressEvent } from '../door.ts'

export class LiveText {
  private readonly task: string
  /** `waiting` until the task is seen to begin, so that nothing of its text was missed. */
  private state: 'waiting' | 'live' | 'held'
  private effect: string | undefined
  /** The first half of a character whose second half is to come. */
  private half = ''
  private sent = ''

  /** `isPlain`: every reply of the agent's model is its answer. */
  constructor(task: string, { isPlain }: { readonly isPlain: boolean }) {
    this.task = task
    this.state = isPlain ? 'waiting' : 'held'
  }

  /** What is to be sent now; empty for nothing. */
  take(event: ProgressEvent): string {
    if (event.task !== this.task || this.state === 'held') return ''
    if (event.kind === 'entry') {
      const isBeginning = event.n === 0 && event.input === 'start'
      // A host that takes over asks the model again, from the start.
      this.state = isBeginning ? 'live' : 'held'
      return ''
    }
    if (this.state !== 'live' || event.text === undefined) return ''
    this.effect ??= event.effect
    if (event.effect !== this.effect) this.state = 'held'
    return this.state === 'live' ? this.whole(event.text) : ''
  }

  /** Sends nothing more before the end. */
  hold(): void {
    this.state = 'held'
  }

  /**
   * What is missing when the task has ended. Throws `stream_broken` when another text was streamed: a model whose connection broke in the
   * middle is asked again, and may answer otherwise.
   */
  rest(answer: string): string {
    if (answer.startsWith(this.sent)) return answer.slice(this.sent.length)
    throw new KaosError('stream_broken', `the answer of task "${this.task}" does not begin with what was streamed of it`)
  }

  private whole(text: string): string {
    const all = this.half + text
    const isOpen = /[\ud800-\udbff]$/.test(all)
    this.half = isOpen ? all.slice(-1) : ''
    const part = isOpen ? all.slice(0, -1) : all
    this.sent += part
    return part
  }
}
