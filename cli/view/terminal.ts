/** What commands print: answers on stdout, everything else on stderr; colours on a terminal only. */
import { styleText } from 'node:util'
import { KaosError } from '../../bus/wire/errors.ts'
import { ManifestError } from '../../manifests/problem.ts'
import { redact } from '../../telemetry/redact.ts'

export type Style = Parameters<typeof styleText>[0]
export type Paint = (style: Style, text: string) => string

const CONTROL_CHARS = /\p{Cc}+/gu

export function isColorful(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY === true && !process.env.NO_COLOR
}

/** Colours for what is printed. */
export const paint = painterOf(process.stdout)
/** Colours for what is said: one of the two may go to a file while the other is on a terminal. */
export const paintAside = painterOf(process.stderr)

function painterOf(stream: NodeJS.WriteStream): Paint {
  return (style, text) => (isColorful(stream) ? styleText(style, text, { validateStream: false }) : text)
}

/** Columns that a line may have; a pipe or a file takes any. */
export function printWidth(): number {
  return process.stdout.columns ?? Number.POSITIVE_INFINITY
}

/** Names, titles and messages come from models, tools and strangers: they must not move the cursor. */
export function printable(text: string): string {
  return text.replaceAll(CONTROL_CHARS, ' ')
}

/** Text of several lines, as it is for a pipe or a file, and harmless on a terminal. */
export function shown(text: string): string {
  return process.stdout.isTTY ? text.replaceAll(/[^\P{Cc}\n\t]+/gu, ' ') : text
}

/** `kaos task list | head` reads what it wants and leaves; the command still ends with its own exit code. */
export function allowLeavingReaders(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
    })
  }
}

/** A line of the command's answer. */
export function print(line = ''): void {
  process.stdout.write(`${line}\n`)
}

/** A line about what is going on. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
}

/** An error for people: what failed, and what to do about it. */
export function describeError(error: unknown): string {
  if (error instanceof ManifestError) return redact(error.message)
  const { message, code, cure } = known(error)
  return redact(`${message}\n  ${code}: ${cure}`)
}

export function errorJson(error: unknown): object {
  if (error instanceof ManifestError) {
    return { error: { code: error.code, message: redact(error.message), problems: error.problems } }
  }
  const { message, code, cure, details = null } = known(error)
  return { error: { code, message: redact(message), cure, details } }
}

/** What nobody foresaw is a defect of ours. */
function known(error: unknown): KaosError {
  if (error instanceof KaosError) return error
  return new KaosError('internal', error instanceof Error ? error.message : String(error), { cause: error })
}

export function seconds(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 59_950) return `${(ms / 1_000).toFixed(1)} s`
  const whole = Math.round(ms / 1_000)
  const minutes = Math.floor(whole / 60)
  return minutes < 120 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}
