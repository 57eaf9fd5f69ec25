import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { redact } from '../../telemetry/redact.ts'

const SECRET = 'hunter2-hunter2'
const JWT = `eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5In0.eyJqdGkiOiJ${'Q2hldXJl'.repeat(5)}.c2ln-_${'a1B2'.repeat(8)}`
const SEED = `SUA${'M3KQ'.repeat(14)}AB`.slice(0, 58)
const PEM_BODY = `${'MIIEvQIBADANBgkqhkiG9w0BAQEFAASC+/=='.repeat(2)}`
const pem = (end: string) =>
  `-----BEGIN RSA PRIVATE KEY-----${end}${PEM_BODY}${end}${PEM_BODY}${end}-----END RSA PRIVATE KEY-----`

describe('a secret', () => {
  const lines = {
    'a field': JSON.stringify({ password: SECRET }),
    'a field with quotes in its value': JSON.stringify({ api_key: `"${SECRET}"\\` }),
    'JSON inside a field': JSON.stringify({ msg: JSON.stringify({ access_token: SECRET }) }),
    'JSON inside JSON inside a field': JSON.stringify({ msg: JSON.stringify({ text: JSON.stringify({ secret: SECRET }) }) }),
    'JSON inside a field, behind a quote of its own': JSON.stringify({
      msg: JSON.stringify({ password: `a"b\\${SECRET}"`, after: 1 }),
    }),
    'JSON that was cut off inside a field': JSON.stringify({ msg: JSON.stringify({ password: `a"b${SECRET}` }).slice(0, -2) }),
    'a header': JSON.stringify({ headers: { authorization: `Bearer ${SECRET}` } }),
    'a header of another scheme': JSON.stringify({ headers: { Authorization: `ApiKey ${SECRET}` } }),
    'a list of headers': JSON.stringify({ headers: { 'set-cookie': [`sid=${SECRET}; Path=/`, `b="${SECRET}"`] } }),
    'an address': JSON.stringify({ url: `nats://anna:${SECRET}@127.0.0.1:4222` }),
    'an address whose password holds an @': JSON.stringify({ url: `nats://anna:p@${SECRET}@127.0.0.1:4222` }),
    'the second of two addresses': JSON.stringify({ urls: `nats://a:x@h1:4222,nats://b:${SECRET}@h2:4222` }),
    'an address with a token': JSON.stringify({ url: `nats://${SECRET}@127.0.0.1:4222` }),
    'a setting in text': JSON.stringify({ msg: `started with NATS_PASSWORD=${SECRET} and more` }),
    'a setting before a quote': JSON.stringify({ msg: `started with "NATS_PASSWORD=${SECRET}"` }),
    'a setting with a quoted value': JSON.stringify({ msg: `NATS_PASSWORD="${SECRET}" PASSWD='${SECRET}'` }),
    'a setting with a backslash': JSON.stringify({ msg: `NATS_PASSWORD=abcdef\\${SECRET}` }),
    'the headers of OTLP': JSON.stringify({ msg: `OTEL_EXPORTER_OTLP_HEADERS=x-honeycomb-team=${SECRET},b=${SECRET}` }),
    'the headers of OTLP of one signal': JSON.stringify({ env: { OTEL_EXPORTER_OTLP_TRACES_HEADERS: `any=${SECRET}` } }),
    'the headers of OTLP, encoded': JSON.stringify({ given: `authorization=Bearer%20${SECRET}` }),
    'text of a request': JSON.stringify({ msg: `GET / HTTP/1.1\r\nAuthorization: ApiKey ${SECRET}\r\n` }),
    'credentials of AWS': JSON.stringify({ env: { AWS_SECRET_ACCESS_KEY: SECRET } }),
    'credentials of AWS in text': JSON.stringify({ msg: `secretAccessKey=${SECRET}` }),
  }
  for (const [where, line] of Object.entries(lines)) {
    it(`in ${where} is taken out, and the line stays JSON`, () => {
      const clean = redact(line)

      expect(clean).not.toContain(SECRET)
      expect(clean).toContain('[redacted]')
      expect(() => JSON.parse(clean)).not.toThrow()
    })
  }

  const forms = {
    'a JWT': [JWT, JWT.slice(-30)],
    'a seed of NATS': [SEED, SEED.slice(5)],
    'a private key': [pem('\n'), PEM_BODY.slice(0, 20)],
    'a private key on Windows': [pem('\r\n'), PEM_BODY.slice(0, 20)],
    'a private key with escaped line ends': [pem('\\n'), PEM_BODY.slice(0, 20)],
    'a private key that was cut off': [pem('\n').slice(0, 120), PEM_BODY.slice(0, 20)],
    'credentials of NATS': [
      `-----BEGIN NATS USER JWT-----\n${JWT}\n------END NATS USER JWT------\n-----BEGIN USER NKEY SEED-----\n${SEED}\n------END USER NKEY SEED------`,
      SEED.slice(5),
    ],
    'a key of AWS': ['AKIAIOSFODNN7EXAMPLE', 'IOSFODNN7'],
    'a temporary key of AWS': ['ASIAIOSFODNN7EXAMPLE', 'IOSFODNN7'],
    'a key of OpenAI': ['sk-proj-abcdefghijklmnop123456', 'abcdefghijkl'],
    'a token of GitHub': [`github_pat_${'a1B2'.repeat(10)}`, 'a1B2a1B2'],
    'a token of Slack': ['xoxb-123456789012-abcdefghij', 'abcdefghij'],
    'a basic credential': ['Basic YW5uYTpodW50ZXIy', 'YW5uYTpodW50ZXIy'],
  } as const
  for (const [what, [given, part]] of Object.entries(forms)) {
    it(`that is ${what} is known by its form, in text and in JSON`, () => {
      const text = redact(`it was ${given} there`)
      const line = redact(
        JSON.stringify({ msg: `it was\n${given}`, text: JSON.stringify({ given: `\n${given}` }), after: 'kept' }),
      )

      expect(text).not.toContain(part)
      expect(line).not.toContain(part)
      expect(JSON.parse(line)).toMatchObject({ after: 'kept' })
    })
  }

  it('in quotes is taken out of text', () => {
    expect(redact(`password="${SECRET}", license_key='${SECRET}'`)).toBe(`password="[redacted]", license_key='[redacted]'`)
  })

  it('that is a number or a list leaves the line JSON', () => {
    const line = JSON.stringify({
      password: 12345678,
      secret: [1234567, 2],
      token: ['a', SECRET],
      pass: [[SECRET]],
      after: 'kept',
    })

    const clean = redact(line)

    expect(clean).not.toContain('12345678')
    expect(clean).not.toContain(`"a","${SECRET}"`)
    expect(JSON.parse(clean)).toMatchObject({ after: 'kept' })
  })
})

it('leaves counts of tokens alone', () => {
  const line = JSON.stringify({ usage: { inputTokens: 1234567, outputTokens: 7654321 }, maxTokens: 1234567 })

  expect(redact(line)).toBe(line)
})

describe('ordinary text', () => {
  const texts = [
    'a basic introduction to basic JavaScript, and a bearer certificate. The bearer understands.',
    'skip-the-next-three-lines of skills-agent_order-17_3-1 and pkg-config-of-the-project',
    'open http://localhost:4317/v1/traces or write to mail@example.com; see https://docs.kaos.tools/a@b',
    'file:///app/main.ts:12:5 at http://127.0.0.1:11434',
    'bypass=enabled compass=northwest the key: is "what" one makes of it; no credentials: asking again',
    'the cookie was eaten; authorization was refused; the password is wrong',
    '0af7651916cd43dd8448eb211c80319c b7ad6b7169203331 coordinator_order-17_3-1',
    JSON.stringify({ key: 'order-17', keys: ['a', 'b'], session: 's-1234567', secretKeyRef: { name: 'openai', key: 'api' } }),
    JSON.stringify({ url: 'http://x:80', to: 'b@c', 'gen_ai.token.type': 'input', pass: true }),
  ]
  for (const text of texts) {
    it(`stays as it is: ${text.slice(0, 40)}…`, () => {
      expect(redact(text)).toBe(text)
    })
  }
})

it('leaves every line JSON, and keeps what stands beside a secret', () => {
  const part = fc.constantFrom(
    ...[
      'password',
      'token',
      'api_key',
      'pass',
      'authorization',
      'Bearer ',
      'Basic ',
      'sk-',
      'eyJ',
      'AKIA',
      '-----BEGIN RSA PRIVATE KEY-----',
    ],
    ...[
      '://',
      'nats://',
      'a:b',
      '@',
      '=',
      ': ',
      '"',
      '\\',
      '\\"',
      '\n',
      ' ',
      ',',
      '[',
      ']',
      '{',
      '}',
      '1234567',
      'abcdefgh',
      'aB3'.repeat(9),
    ],
  )
  const text = fc.array(part, { maxLength: 12 }).map((parts) => parts.join(''))
  const nested = text.map((value) => JSON.stringify({ password: value, b: value }))
  const value = fc.oneof(text, nested, fc.array(text, { maxLength: 3 }), fc.integer())

  fc.assert(
    fc.property(fc.dictionary(text, value, { maxKeys: 4 }), nested, (fields, inner) => {
      const clean = JSON.parse(redact(JSON.stringify({ ...fields, inner, after: 'kept' })))

      expect(clean.after).toBe('kept')
    }),
    { numRuns: 2_000 },
  )
})
