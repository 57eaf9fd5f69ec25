/** What commands print: answers on stdout, everything else on stderr; colours on a terminal only. */
import { styleText } from 'node:util'
import { KaosError } from '../bus/wire/errors.ts'
import { redact } from '../telemetry/redact.ts'

type Style = Parameters<typeof styleText>[0]

export const isColorful = () => process.stdout.isTTY === true && !process.env.NO_COLOR

export function paint(style: Style, text: string): string {
  return isColorful() ? styleText(style, text) : text
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
  if (error instanceof KaosError) return redact(`${error.message}\n  ${error.code}: ${error.cure}`)
  return redact(error instanceof Error ? error.message : String(error))
}

export function errorJson(error: unknown): object {
  if (error instanceof KaosError)
    return { error: { code: error.code, message: redact(error.message), cure: error.cure, details: error.details ?? null } }
  const { code = 'internal', problems } = error as { code?: string; problems?: unknown }
  return {
    error: {
      code,
      message: redact(error instanceof Error ? error.message : String(error)),
      ...(problems !== undefined && { problems }),
    },
  }
}

export function seconds(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  return ms < 60_000 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1_000)} s`
}
