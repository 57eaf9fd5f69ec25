/** How the documents are read and compared: what the other tests here rely on. */
import { describe, expect, it } from 'vitest'
import { foreignMistakes } from './foreign-yaml.ts'
import { lineNotPrinted } from './printed.ts'
import { commandsOf } from './reader.ts'

describe('what a page says is printed', () => {
  const printed = 'kaos is up: a, b\n  NATS  nats://127.0.0.1:15890 (embedded)\ncompleted in 54 ms\n- calculate: 84\n'

  it('may differ in times, ids and ports, and leave lines out', () => {
    expect(lineNotPrinted('kaos is up: a, b\ncompleted in 7 ms', printed)).toBeUndefined()
    expect(lineNotPrinted('NATS nats://127.0.0.1:4222 …', printed)).toBeUndefined()
    expect(lineNotPrinted('ready h62ce19a04be5', 'ready h09262c74341d')).toBeUndefined()
  })

  it('must not differ in anything else, nor in its order', () => {
    expect(lineNotPrinted('- calculate: 85', printed)).toBe('- calculate: 85')
    expect(lineNotPrinted('kaos is up: a', printed)).toBe('kaos is up: a')
    expect(lineNotPrinted('completed in 7 ms\nkaos is up: a, b', printed)).toBe('kaos is up: a, b')
  })
})

describe('the commands of a block', () => {
  it('are awaited where they stay, on any free port', () => {
    expect(commandsOf('npx kaos up -f .   # stays')).toBe("stays 'Ctrl-C ends it' 'npx kaos up -f . --port 0'")
    expect(commandsOf('A=b npx kaos host -f x.yaml')).toBe("stays '^ready ' 'env A=b npx kaos host -f x.yaml'")
  })

  it('must exit with the code that their comment says', () => {
    expect(commandsOf('npx kaos replay last   # exits 1')).toBe("exits 1 'npx kaos replay last'")
    expect(commandsOf("kaos task signal last go '{}'   # exits 2")).toBe(`exits 2 'kaos task signal last go '\\''{}'\\'''`)
  })

  it('find the broker where it is', () => {
    expect(commandsOf('export NATS_URL=nats://127.0.0.1:4222')).toBe('export NATS_URL=nats://$BROKER')
  })
})

describe('YAML of others', () => {
  it('has a mistake when a Collector names what it does not declare, or declares what it does not use', () => {
    const declared = 'receivers: { otlp: {} }\nexporters: { debug: {}, file: {} }\n'
    const pipelines = 'service: { pipelines: { traces: { receivers: [otlp], processors: [batch], exporters: [debug] } } }'

    expect(foreignMistakes(declared + pipelines)).toEqual([
      'processors: "batch" is used and not declared',
      'exporters: "file" is declared and not used',
    ])
    expect(foreignMistakes('otlp: [')).toHaveLength(1)
  })
})
