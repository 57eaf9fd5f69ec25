/** Makes words of a server fit for logs, errors and journals: short, on one line, without secrets. */
import { redact } from '../../telemetry/redact.ts'
import { MCP_LIMITS } from '../limits.ts'

/** Shorter values are words like "true", which would only riddle the text. */
const SECRET_LENGTH_MIN = 8

/** `secrets` are the values that were configured for this server, whatever they look like. Of a long text the given end is kept. */
export function conceal(text: string, secrets: readonly string[], keep: 'start' | 'end' = 'start'): string {
  let clean = redact(text)
  const longestFirst = secrets.filter((secret) => secret.length >= SECRET_LENGTH_MIN).toSorted((a, b) => b.length - a.length)
  for (const secret of longestFirst) clean = clean.replaceAll(secret, '[redacted]')
  clean = clean.replace(/\s+/g, ' ').trim()
  return keep === 'start' ? clean.slice(0, MCP_LIMITS.wordsLengthMax) : clean.slice(-MCP_LIMITS.wordsLengthMax)
}
