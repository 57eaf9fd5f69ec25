import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { offerTools, parseAgentCard, parseToolList, type ToolDescription } from '../../../bus/wire/catalog.ts'

function tool(name: string): ToolDescription {
  return { name, description: `does ${name}`, inputSchema: { type: 'object' }, readOnlyHint: true, idempotentHint: false }
}

function offered(servers: Readonly<Record<string, readonly string[]>>, taken?: readonly string[]) {
  return offerTools(
    Object.entries(servers).map(([server, names]) => ({ server, tools: names.map(tool) })),
    taken,
  ).map(({ name }) => name)
}

describe('offered tools', () => {
  it('keep their names, with where they come from', () => {
    expect(offerTools([{ server: 'web', tools: [tool('search')] }])).toEqual([
      {
        name: 'search',
        server: 'web',
        tool: 'search',
        description: 'does search',
        inputSchema: { type: 'object' },
        readOnlyHint: true,
        idempotentHint: false,
      },
    ])
  })

  it('of one name belong to the first server; later ones carry their server', () => {
    expect(offered({ web: ['search', 'get'], docs: ['search'], wiki: ['search', 'list'] })).toEqual([
      'search',
      'get',
      'docs_search',
      'wiki_search',
      'list',
    ])
  })

  it('keep a plain name before another tool is renamed to it', () => {
    const names = offered({ web: ['search'], docs: ['search'], odd: ['docs_search'] })

    expect(names[2]).toBe('docs_search')
    expect(names[1]).toMatch(/^docs_search_[0-9a-f]{8}$/)
  })

  it('have the characters replaced that models do not take, after those that are written so', () => {
    expect(offered({ a: ['x.y/z', 'x_y_z'], 'b-1': ['r.s'] })).toEqual(['a_x_y_z', 'x_y_z', 'r_s'])
  })

  it('do not take the names of delegations', () => {
    expect(offered({ web: ['delegate_to_writer'] }, ['delegate_to_writer'])).toEqual(['web_delegate_to_writer'])
  })

  it('that are too long are cut and end in a hash', () => {
    const [one, two] = offered({ web: [`${'x'.repeat(80)}a`, `${'x'.repeat(80)}b`] })

    expect(one).toMatch(/^web_x{51}_[0-9a-f]{8}$/)
    expect(two).not.toBe(one)
  })

  it('are unique, acceptable to models, and the same every time, whatever servers list', () => {
    const name = fc.oneof(
      fc.string({ minLength: 1, unit: fc.constantFrom('a', '_', '.', '-', 'é') }),
      fc.string({ minLength: 60, maxLength: 70 }),
    )
    const servers = fc.uniqueArray(fc.record({ server: fc.constantFrom('a', 'b', 'a-b'), names: fc.uniqueArray(name) }), {
      selector: ({ server }) => server,
    })

    fc.assert(
      fc.property(servers, (given) => {
        const input = given.map(({ server, names }) => ({ server, tools: names.map(tool) }))
        const names = offerTools(input).map((tool) => tool.name)
        expect(new Set(names).size).toBe(names.length)
        expect(names.every((name) => /^[a-zA-Z0-9_-]{1,64}$/.test(name))).toBe(true)
        expect(offerTools(input).map((tool) => tool.name)).toEqual(names)
      }),
    )
  })
})

describe('records', () => {
  const list = { v: 1, kind: 'tool', server: 'web', hash: 'h', tools: [tool('search')] }
  const card = { v: 1, kind: 'agent', name: 'writer', description: 'writes', skills: [{ name: 'prose', description: 'long' }] }

  it('are read without the fields that this version does not know', () => {
    expect(parseToolList({ ...list, color: 'red', tools: [{ ...tool('search'), cost: 3 }] })).toEqual(list)
    expect(parseAgentCard({ ...card, color: 'red' })).toEqual(card)
  })

  it.each([parseToolList, parseAgentCard])('of a higher version are refused by $name', (parse) => {
    expect(() => parse({ v: 2 })).toThrow(expect.objectContaining({ code: 'unsupported_version' }))
  })

  it('that cannot be read name the field', () => {
    expect(() => parseToolList({ ...list, tools: [{ ...tool('search'), inputSchema: 'none' }] })).toThrow(
      /field "tools.0.inputSchema"/,
    )
    expect(() => parseAgentCard(list)).toThrow(/field "kind"/)
    expect(() => parseToolList('text')).toThrow(expect.objectContaining({ code: 'bad_message' }))
  })
})
