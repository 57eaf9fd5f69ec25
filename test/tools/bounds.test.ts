import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { backOffMs } from '../../tools/reopening.ts'
import { conceal } from '../../tools/runtimes/conceal.ts'
import { Lines } from '../../tools/runtimes/lines.ts'
import { MessageBound } from '../../tools/runtimes/message-bound.ts'
import { readResult } from '../../tools/tool-result.ts'

describe('lines', () => {
  it('come out whole however the stream is cut', () => {
    const lines = fc.array(fc.string({ unit: 'grapheme' }).filter((line) => !/[\r\n]/.test(line)))

    fc.assert(
      fc.property(lines, fc.integer({ min: 1, max: 7 }), (written, size) => {
        const { lines: seen, push } = collect(10_000)
        push(Buffer.from(written.map((line) => `${line}\n`).join('')), size)
        expect(seen).toEqual(written)
      }),
    )
  })

  it('that are too long are dropped, told by their ends, and do not disturb the next', () => {
    const { lines, dropped, push } = collect(1_000)

    push(Buffer.from(`a\nbegin${'x'.repeat(5_000)}end\nb\r\n`), 64)

    expect(lines).toEqual(['a', 'b'])
    expect(dropped).toHaveLength(1)
    expect(dropped[0]?.head).toMatch(/^beginx{251}$/)
    expect(dropped[0]?.tail).toMatch(/^x{253}end$/)
  })

  function collect(bytesMax: number) {
    const lines: string[] = []
    const dropped: { head: string; tail: string }[] = []
    const cutter = new Lines(bytesMax, {
      onLine: (line) => lines.push(line),
      onOversized: (head, tail) => dropped.push({ head, tail }),
    })
    const push = (bytes: Buffer, size: number) => {
      for (let at = 0; at < bytes.length; at += size) cutter.push(bytes.subarray(at, at + size))
    }
    return { lines, dropped, push }
  }
})

describe('message bound', () => {
  it('counts a whole body', () => {
    const bound = new MessageBound(10, false)

    expect(bound.isPassedBy(Buffer.from('12345\n\n'))).toBe(false)
    expect(bound.isPassedBy(Buffer.from('1234'))).toBe(true)
  })

  it.each(['\n\n', '\r\n\r\n', '\r\r'])('counts each event of a stream for itself, ended by %j and cut anywhere', (end) => {
    const stream = Buffer.from(`data: 12${end}`.repeat(50))

    for (let size = 1; size <= 20; size++) {
      const bound = new MessageBound(40, true)
      for (let at = 0; at < stream.length; at += size) expect(bound.isPassedBy(stream.subarray(at, at + size))).toBe(false)
    }
  })

  it('notices a large event however small its pieces', () => {
    const bound = new MessageBound(100, true)

    const passed = Array.from({ length: 101 }, () => bound.isPassedBy(Buffer.from('x')))

    expect(passed.indexOf(true)).toBe(100)
  })
})

describe('back-off', () => {
  it('begins at once, doubles, and has a bound', () => {
    expect([0, 1, 2, 3, 4, 40].map((failures) => backOffMs(failures, 5_000))).toEqual([0, 0, 100, 200, 400, 5_000])
  })
})

describe('concealed words', () => {
  it('are short, on one line, and without keys or configured values', () => {
    const words = conceal('token=abcdefgh\n\tat https://me:secret@host/ longer-value-1 longer-value', [
      'longer-value',
      'longer-value-1',
      'x',
    ])

    expect(words).toBe('token=[redacted] at https://[redacted]@host/ [redacted] [redacted]')
    expect(conceal('x'.repeat(10_000), [])).toHaveLength(400)
    expect(conceal(`${'x'.repeat(10_000)}!`, [], 'end')).toMatch(/!$/)
  })
})

describe('result', () => {
  it('of null is null, not absence', () => {
    expect(readResult('t', { content: [{ type: 'text', text: 'null' }], structuredContent: null })).toEqual({
      value: null,
      isError: false,
    })
  })

  it('of a failed tool is its text, also beside structured content', () => {
    const failed = { isError: true, content: [{ type: 'text', text: 'no' }], structuredContent: { code: 5 } }

    expect(readResult('t', failed)).toEqual({ value: 'no', isError: true })
    expect(readResult('t', { ...failed, content: [] })).toEqual({ value: { code: 5 }, isError: true })
  })

  it('leaves out the bytes of binary content', () => {
    const blob = Buffer.alloc(100).toString('base64')

    const { value } = readResult('t', {
      content: [
        { type: 'audio', mimeType: 'audio/wav', data: blob, _meta: { a: 1 } },
        { type: 'resource', resource: { uri: 'file:///x', blob } },
        { type: 'resource_link', uri: 'file:///y', name: 'y' },
      ],
    })

    expect(value).toEqual([
      { type: 'audio', mimeType: 'audio/wav', bytes: 100 },
      { type: 'resource', resource: { uri: 'file:///x', bytes: 100 } },
      { type: 'resource_link', uri: 'file:///y', name: 'y' },
    ])
  })
})
