/** Takes secrets out of text before anybody reads it: keys, bearer tokens, passwords in URLs. */

const SECRETS: readonly [RegExp, string][] = [
  [/\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}/gi, '$1 [redacted]'],
  [/\b(sk|pk|rk|ghp|gho|xox[abpr]|AKIA|AIza)[-_]?[A-Za-z0-9_-]{16,}/g, '[redacted]'],
  [/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@:]*:[^\s/@]+@/gi, '$1[redacted]@'],
  [/\b(S[UAOCNX][A-Z2-7]{56})\b/g, '[redacted]'], // NATS seeds
  // In JSON, in JSON inside a string of JSON, as a number, and in text such as "password=…". A log line must stay JSON.
  [/((?:api[-_]?key|password|secret|token)"\s*:\s*")(?:\\.|[^"\\])+/gi, '$1[redacted]'],
  [/((?:api[-_]?key|password|secret|token)\\+"\s*:\s*\\+")[^"\\]+/gi, '$1[redacted]'],
  [/((?:api[-_]?key|password|secret|token)"\s*:\s*)\d{6,}/gi, '$1"[redacted]"'],
  [/((?:api[-_]?key|password|secret|token)["']?\s*[:=]\s*["']?)(?![[{])[^\s"',}&]{6,}/gi, '$1[redacted]'],
]

export function redact(text: string): string {
  let clean = text
  for (const [pattern, replacement] of SECRETS) clean = clean.replace(pattern, replacement)
  return clean
}
