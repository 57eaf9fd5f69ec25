/** What a replay ends with, for programs and for people. */
import type { Json } from '../bus/wire/json.ts'
import type { Cause } from './cause.ts'
import type { Missing } from './record.ts'

export type Verdict =
  | {
      readonly verdict: 'identical'
      readonly traceId: string
      readonly entries: number
      readonly actors: number
      /** A replay makes none; the number stands here so that nobody has to wonder. */
      readonly calls: 0
      readonly ms: number
    }
  | {
      readonly verdict: 'diverged'
      readonly traceId: string
      readonly agent: string
      readonly task: string
      readonly n: number
      /** Entry id. */
      readonly entry: string
      /** What differs first in what the entry decided, such as `commands[0].input.request.messages[0].content`. */
      readonly path: string
      /** Excerpts around the first difference. */
      readonly recorded: string
      readonly got: string
      readonly cause: Cause
      readonly why: string
      readonly ms: number
    }
  | {
      readonly verdict: 'inconclusive'
      readonly traceId: string
      readonly missing: readonly Missing[]
      readonly ms: number
    }

const EXIT_CODES = { identical: 0, diverged: 1, inconclusive: 2 } as const
const MISSING_SHOWN_MAX = 10
const CONTROL_CHARS = /\p{Cc}+/gu

export function exitCodeOfVerdict(verdict: Verdict): number {
  return EXIT_CODES[verdict.verdict]
}

/** One line, or for a difference a few. Safe to print: what the record holds cannot move the cursor. */
export function verdictLine(verdict: Verdict): string {
  switch (verdict.verdict) {
    case 'identical':
      return `identical: ${verdict.entries} entries, ${verdict.calls} calls, ${Math.ceil(verdict.ms)} ms`
    case 'diverged':
      return [
        `diverged at entry ${verdict.entry} of agent ${verdict.agent}; likely cause: ${verdict.cause} (${printable(verdict.why)})`,
        `  ${printable(verdict.path)}`,
        `  - recorded: ${printable(verdict.recorded)}`,
        `  + got:      ${printable(verdict.got)}`,
      ].join('\n')
    case 'inconclusive': {
      const [first, ...others] = verdict.missing.map(({ message }) => printable(message))
      if (others.length === 0) return `inconclusive: ${first}`
      const shown = [first, ...others].slice(0, MISSING_SHOWN_MAX)
      const more = verdict.missing.length - shown.length
      return [
        `inconclusive: ${verdict.missing.length} things are missing`,
        ...shown.map((message) => `  ${message}`),
        ...(more > 0 ? [`  and ${more} more`] : []),
      ].join('\n')
    }
  }
}

export function verdictJson(verdict: Verdict): { readonly [field: string]: Json } {
  return { ...verdict, exitCode: exitCodeOfVerdict(verdict) } as unknown as { [field: string]: Json }
}

function printable(text: string): string {
  return text.replaceAll(CONTROL_CHARS, ' ')
}
