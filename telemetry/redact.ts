/**
 * Takes secrets out of text before anybody reads it, in log lines and in messages of errors. By their form: bearer tokens, JWTs, keys of providers,
 * NATS seeds, private keys, passwords in URLs; by their name: what stands under `password`, `api_key`, `authorization` and the like.
 *
 * Every pattern is bounded where it may begin anywhere: text of others, 100 KB of "a-a-a-…", must not hold up the process (1 us for a line of 200
 * bytes, 130 us for 20 KB of that). A log line must stay JSON: a pattern never eats a quote that it did not open, nor half of an escape.
 */

const REDACTED = '[redacted]'

// Where a word may begin, also right after an escaped line end: \b or (?<=\\[nrt]).
const BY_FORM: readonly (readonly [hint: string, pattern: RegExp, replacement: string])[] = [
  // Lower-case letters alone are prose: "a bearer certificate".
  ['earer', /(?:\b|(?<=\\[nrt]))([Bb]earer)((?:\s|%20){1,9})(?![a-z]{1,15}\.?(?![\w~+/=-]))[\w.~+/=-]{8,}/g, `$1$2${REDACTED}`],
  ['BEARER', /(?:\b|(?<=\\[nrt]))(BEARER\s{1,9})[\w.~+/=-]{8,}/g, `$1${REDACTED}`],
  // Base64 of "name:password": "a basic introduction" is not.
  [
    'asic',
    /(?:\b|(?<=\\[nrt]))([Bb]asic\s{1,9})(?=[A-Za-z+/]{0,40}(?:[0-9=]|[a-z][A-Z][A-Za-z+/]{0,40}[a-z][A-Z]))[\w+/=-]{8,}/g,
    `$1${REDACTED}`,
  ],
  ['eyJ', /(?:\b|(?<=\\[nrt]))eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*){0,3}/g, REDACTED],
  // Line ends may be escaped, also twice. The end may be cut off.
  [
    '-----BEGIN',
    /-----BEGIN [A-Z0-9 ]{0,40}(?:PRIVATE KEY|SEED|JWT)-----(?:\\+[nr]|[\w+/=\s:,.]|-(?!-))*(?:-{4,6}END [A-Z0-9 ]{1,50}-{4,6})?/g,
    REDACTED,
  ],
  // To the last @ before a slash, for passwords may hold one. NATS takes a token alone in place of the user.
  ['://', /(?:\b|(?<=\\[nrt]))([a-z][a-z0-9+.-]{1,20}:\/\/)[^\s/@:"'\\]{0,200}:[^\s/"'\\]{1,500}@/gi, `$1${REDACTED}@`],
  ['://', /(?:\b|(?<=\\[nrt]))((?:nats|tls|wss?|https?):\/\/)[^\s/@:"'\\]{6,500}@/gi, `$1${REDACTED}@`],
  [
    '',
    /(?:\b|(?<=\\[nrt]))(?:(?:[spr]k|gsk|gh[oprsu]|github_pat|glpat|hf|npm|xai|nvapi|xox[abeprs])[-_]|(?:AKIA|ASIA|AIza)[-_]?)[\w-]{16,}/g,
    REDACTED,
  ],
  ['', /(?:\b|(?<=\\[nrt]))S[UAOCNX][A-Z2-7]{56}\b/g, REDACTED], // NATS seeds
]

/** Names whose value is a secret, also in prose as in "wrong password: …". */
const PLAIN_NAMES = 'api[-_]?key|password|secret|token'
/** Names that are also words of prose: their value is taken only where the form shows that it is one. */
const MORE_NAMES =
  '(?:access|private|ingestion|license|signing|encryption|master|secret|subscription)[-_]?key|passwd|(?<![a-z])pass|pwd|passphrase|' +
  'authorization|cookie|credentials?|creds|jwt|dsn|nkey|honeycomb-team|otlp_(?:[a-z]+_)?headers'
const NAMES = `(?:${PLAIN_NAMES}|${MORE_NAMES})`
/** Cheaper than the patterns below, most lines have none: an end of each name, and what follows it. */
const NAMED =
  /(?:key|pass(?:w(?:or)?d|phrase)?|pwd|secret|token|authorization|cookie|credentials?|creds|jwt|dsn|team|headers)(?:\\*"|'|\s{0,9}[:=])/i

/** A quote before a value: not one that closes a string of JSON, for that has one of these signs behind it, or an even number of backslashes before. */
const OPENED = `(?:"(?![,:}\\]\\s])|\\\\(?:\\\\\\\\){0,4}["']|')?`

const BY_NAME: readonly (readonly [RegExp, string])[] = [
  // In JSON, in JSON inside a string of JSON, as a number, as a list.
  [new RegExp(`(${NAMES}"\\s{0,9}:\\s{0,9}")(?:\\\\.|[^"\\\\])+`, 'gi'), `$1${REDACTED}`],
  [
    new RegExp(`(${NAMES}(\\\\+)"\\s{0,9}:\\s{0,9}\\2")(?:[^"\\\\]|(?!\\2")(?:(?:\\\\\\\\)*\\\\[^\\\\]|(?:\\\\\\\\)+))+`, 'gi'),
    `$1${REDACTED}`,
  ],
  [new RegExp(`(${NAMES}"\\s{0,9}:\\s{0,9})-?\\d[\\d.eE+-]{4,}`, 'gi'), `$1"${REDACTED}"`],
  [new RegExp(`(${NAMES}"\\s{0,9}:\\s{0,9})\\[(?:[^"[\\]{}]|"(?:\\\\.|[^"\\\\])*")+\\]`, 'gi'), `$1"${REDACTED}"`],
  // In text: settings, headers, prose.
  [
    new RegExp(`((?:${PLAIN_NAMES})["']?\\s{0,9}[:=]\\s{0,9}${OPENED})(?![[{])(?:[^\\s"',}&\\\\]|\\\\\\\\){6,}`, 'gi'),
    `$1${REDACTED}`,
  ],
  [new RegExp(`((?:${MORE_NAMES})=${OPENED})(?![[{])(?:[^\\s"'}&\\\\]|\\\\\\\\){4,}`, 'gi'), `$1${REDACTED}`],
  [/((?:authorization|cookie): {0,9})(?:[\w-]{1,20} )?[^\s"',\\]{6,}/gi, `$1${REDACTED}`],
]

export function redact(text: string): string {
  let clean = text
  for (const [hint, pattern, replacement] of BY_FORM) if (clean.includes(hint)) clean = clean.replace(pattern, replacement)
  if (!NAMED.test(clean)) return clean
  for (const [pattern, replacement] of BY_NAME) clean = clean.replace(pattern, replacement)
  return clean
}
