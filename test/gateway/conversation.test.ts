import { describe, expect, it } from 'vitest'
import { taskText } from '../../gateway/chat/conversation.ts'
import { HttpProblem } from '../../gateway/problem.ts'

const user = (content: string) => ({ role: 'user', content })

describe('the messages of a request', () => {
  it('are the text itself where there is one', () => {
    expect(taskText([user('{"a": 1')])).toBe('{"a": 1')
    expect(
      taskText([
        {
          role: 'user',
          content: [
            { type: 'text', text: 'one' },
            { type: 'text', text: 'two' },
          ],
        },
      ]),
    ).toBe('one\ntwo')
  })

  it('put the instructions of the caller before the text', () => {
    const messages = [{ role: 'system', content: 'Be brief.' }, { role: 'developer', content: 'Use metres.' }, user('How far?')]

    expect(taskText(messages)).toBe('Be brief.\n\nUse metres.\n\nHow far?')
  })

  it('tell what was said before, in its order', () => {
    const text = taskText([
      { role: 'system', content: 'Be brief.' },
      user('My name is Ada.'),
      { role: 'assistant', content: 'Hello Ada.' },
      { role: 'assistant', content: null, tool_calls: [{ function: { name: 'clock', arguments: '{}' } }] },
      { role: 'tool', content: '12:00' },
      { role: 'task-delegation', content: 'Who am I?' },
    ])

    expect(text).toBe(
      [
        'Be brief.',
        'What was said before:',
        'User: My name is Ada.',
        'Assistant: Hello Ada.',
        'Assistant: (calls clock with {})',
        'Tool: 12:00',
        'What is said now:',
        'Who am I?',
      ].join('\n\n'),
    )
  })

  it('say who spoke last where it was not the user, and what was called, be it no function', () => {
    const text = taskText([
      user('What time is it?'),
      { role: 'assistant', content: null, tool_calls: [{ custom: { name: 'clock', input: 'now' } }] },
      { role: 'tool', content: '12:00' },
    ])

    expect(text).toContain('Assistant: (calls clock with now)')
    expect(text).toMatch(/What is said now:\n\nTool: 12:00$/)
  })

  it('are refused where they hold no text', () => {
    expect(() => taskText([user('  '), { role: 'system', content: 'Be brief.' }])).toThrow(
      expect.objectContaining({ status: 400, param: 'messages' }),
    )
  })

  it('are refused where a part is no text, and which one is said', () => {
    const image = [{ role: 'user', content: [{ type: 'text', text: 'see' }, { type: 'image_url' }] }]

    expect(() => taskText(image)).toThrow(HttpProblem)
    expect(() => taskText(image)).toThrow(expect.objectContaining({ status: 400, param: 'messages[0].content[1]' }))
  })
})
