import { describe, expect, it } from 'vitest'
import { redact } from '../../telemetry/redact.ts'

const SECRET = 'hunter2-hunter2'

describe('a secret', () => {
  const lines = {
    'a field': JSON.stringify({ password: SECRET }),
    'a field with quotes in its value': JSON.stringify({ api_key: `"${SECRET}"\\` }),
    'JSON inside a field': JSON.stringify({ msg: JSON.stringify({ access_token: SECRET }) }),
    'JSON inside JSON inside a field': JSON.stringify({ msg: JSON.stringify({ text: JSON.stringify({ secret: SECRET }) }) }),
    'a header': JSON.stringify({ headers: { authorization: `Bearer ${SECRET}` } }),
    'an address': JSON.stringify({ url: `nats://anna:${SECRET}@127.0.0.1:4222` }),
    'a setting in text': JSON.stringify({ msg: `started with NATS_PASSWORD=${SECRET} and more` }),
  }
  for (const [where, line] of Object.entries(lines)) {
    it(`in ${where} is taken out, and the line stays JSON`, () => {
      const clean = redact(line)

      expect(clean).not.toContain(SECRET)
      expect(clean).toContain('[redacted]')
      expect(() => JSON.parse(clean)).not.toThrow()
    })
  }

  it('that is a number or a list leaves the line JSON', () => {
    const line = JSON.stringify({ password: 12345678, secret: [1234567, 2], after: 'kept' })

    const clean = redact(line)

    expect(clean).not.toContain('12345678')
    expect(JSON.parse(clean)).toMatchObject({ after: 'kept' })
  })
})

it('leaves counts of tokens alone', () => {
  const line = JSON.stringify({ usage: { inputTokens: 1234567, outputTokens: 7654321 }, maxTokens: 1234567 })

  expect(redact(line)).toBe(line)
})
