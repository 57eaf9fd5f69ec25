import { describe, expect, it } from 'vitest'
import { parseToolList, type ToolDescription } from '../../bus/wire/catalog.ts'
import { hashOf } from '../../bus/wire/json.ts'
import { describeTool, toolListOf } from '../../tools/tool-list.ts'

function tool(name: string, description = ''): ToolDescription {
  return { name, description, inputSchema: { type: 'object' }, readOnlyHint: false, idempotentHint: false }
}

describe('tool list', () => {
  it('has the same hash in whatever order the server lists, and another for another schema', () => {
    const one = toolListOf('web', [tool('b'), tool('a')])

    expect(toolListOf('web', [tool('a'), tool('b')])).toEqual(one)
    expect(one.tools.map(({ name }) => name)).toEqual(['a', 'b'])
    expect(one.hash).toBe(hashOf(one.tools))
    expect(toolListOf('web', [tool('a'), tool('b', 'now described')]).hash).not.toBe(one.hash)
  })

  it('can be read back', () => {
    const list = toolListOf('web', [{ ...tool('a'), destructiveHint: true, outputSchema: { type: 'object' } }])

    expect(parseToolList(JSON.parse(JSON.stringify(list)))).toEqual(list)
  })

  it('is refused when it does not fit into one record', () => {
    expect(() => toolListOf('web', [tool('a', 'x'.repeat(600_000))])).toThrow(/tool list of server "web" has 600\d{3} bytes/)
  })
})

describe('a listed tool', () => {
  it('is described with false for hints that are absent', () => {
    expect(describeTool({ name: 'a', inputSchema: { type: 'object' } })).toEqual(tool('a'))
  })

  it('takes no arguments where it states no schema', () => {
    expect(describeTool({ name: 'a' })).toMatchObject({ inputSchema: { type: 'object', properties: {} } })
  })

  it.each([
    [null, 'no object'],
    [{ name: '' }, 'name'],
    [{ name: 'a\nb' }, 'name'],
    [{ name: 'x'.repeat(129) }, 'name'],
    [{ name: 'a', inputSchema: { type: 'array' } }, 'input schema'],
    [{ name: 'a', execution: { taskSupport: 'required' } }, 'MCP task'],
  ])('that cannot be offered gives the reason: %j', (listed, reason) => {
    expect(describeTool(listed)).toContain(reason)
  })
})
