import { describe, expect, it } from 'vitest'
import { readTraceLink, traceLink } from '../../cli/view/trace-link.ts'

const target = { trace: '4bf92f3577b34da6a3ce929d0e0e4736', task: 'coordinator_order-17' }

describe('a link to a tracing backend', () => {
  it('is there only when a template is set', () => {
    expect(readTraceLink({})).toEqual({})
    expect(readTraceLink({ KAOS_TRACE_URL_TEMPLATE: '' })).toEqual({})
  })

  it.each([
    ['http://localhost:16686/trace/{trace_id}', 'http://localhost:16686/trace/4bf92f3577b34da6a3ce929d0e0e4736'],
    [
      'https://signoz.example/trace/{trace_id}?task={task}&again={trace_id}#{task}',
      'https://signoz.example/trace/4bf92f3577b34da6a3ce929d0e0e4736?task=coordinator_order-17&again=4bf92f3577b34da6a3ce929d0e0e4736#coordinator_order-17',
    ],
    [
      'http://localhost:3000/explore?left=%7B%22query%22%3A%22{trace_id}%22%7D',
      'http://localhost:3000/explore?left=%7B%22query%22%3A%224bf92f3577b34da6a3ce929d0e0e4736%22%7D',
    ],
  ])('is made of %s', (template, link) => {
    expect(readTraceLink({ KAOS_TRACE_URL_TEMPLATE: template })).toEqual({ template })
    expect(traceLink(template, target)).toBe(link)
  })

  it('encodes what it is made of', () => {
    expect(traceLink('http://x/{trace_id}/{task}', { trace: 'a/b', task: 'c d&e' })).toBe('http://x/a%2Fb/c%20d%26e')
  })

  it.each([
    ['http://localhost:16686/trace/', 'it does not hold {trace_id}'],
    ['http://localhost/{trace_id}/{span_id}', '{span_id} is none of {trace_id}, {task}'],
    ['localhost:16686/{trace_id}', 'it is no URL that begins with http:// or https://'],
    ['javascript:alert({trace_id})', 'it is no URL that begins with http:// or https://'],
    ['http://localhost/{trace_id}\u001b[2J', 'it holds a space, a control character or a letter that must be encoded'],
  ])('is not made of %j, and says why', (template, why) => {
    const { mistake } = readTraceLink({ KAOS_TRACE_URL_TEMPLATE: template })

    expect(mistake).toBe(`could not use KAOS_TRACE_URL_TEMPLATE ${JSON.stringify(template)}: ${why}, so no link is shown`)
  })
})
