import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { silentLog } from '../../telemetry/log.ts'
import { EXPRESSION_LENGTH_MAX, evaluate } from '../../tools/runtimes/calculator/expression.ts'
import { openSession } from '../../tools/session.ts'
import { callTool } from '../support/mcp-calls.ts'

describe('calculator', () => {
  it.each([
    ['1 + 2 * 3', 7],
    ['(1 + 2) * 3', 9],
    ['2 ^ 3 ^ 2', 512],
    ['-2 ^ 2', -4],
    ['2 ^ -1', 0.5],
    ['7 % 4', 3],
    ['10 / 4 / 5', 0.5],
    ['10 - 4 - 3', 3],
    ['0.1 + 0.2', 0.3],
    ['.5 + 1.', 1.5],
    ['1.5e3', 1500],
    ['--1', 1],
    ['sqrt(16) + max(1, 5, 3)', 9],
    ['round(pi * 100) / 100', 3.14],
    ['LN(e)', 1],
    [' 2\t*\n3 ', 6],
  ])('evaluates %s', (expression, value) => {
    expect(evaluate(expression)).toBe(value)
  })

  it.each([
    ['', 'the expression ends at position 1; expected a number, a name or "("'],
    ['1 +', 'the expression ends at position 4'],
    ['(1 + 2', 'the expression ends at position 7; expected ")"'],
    ['1 2', 'unexpected "2" at position 3; expected an operator'],
    ['2 * )', 'unexpected ")" at position 5'],
    ['1 / (2 - 2)', 'division by zero at position 5'],
    ['5 % 0', 'division by zero at position 5'],
    ['foo(1)', 'unknown name "foo" at position 1'],
    ['constructor(1)', 'unknown name "constructor"'],
    ['sqrt(1, 2)', '"sqrt" at position 1 takes 1 value, not 2'],
    ['sqrt 4', 'expected "(" after "sqrt"'],
    ['sqrt(-1)', 'not a finite number'],
    ['9 ^ 999', 'not a finite number'],
    ['1 = 1', 'unexpected "=" at position 3'],
    [`${'('.repeat(400)}1${')'.repeat(400)}`, 'nested deeper than 100'],
    ['1'.repeat(EXPRESSION_LENGTH_MAX + 1), 'at most 1000 are allowed'],
  ])('says what is wrong with %s', (expression, message) => {
    expect(() => evaluate(expression)).toThrow(message)
  })

  it('agrees with JavaScript on every sum, product and difference', () => {
    const expressions = fc.letrec<{ expression: string }>((tie) => ({
      expression: fc.oneof(
        { maxDepth: 6, depthIdentifier: 'expression' },
        fc.integer({ min: 0, max: 99 }).map(String),
        fc
          .tuple(tie('expression'), fc.constantFrom('+', '-', '*', ' + ', ' - ', ' * '), tie('expression'))
          .map((parts) => parts.join('')),
        tie('expression').map((inner) => `(${inner})`),
        tie('expression').map((inner) => `(-${inner})`),
      ),
    })).expression

    fc.assert(
      fc.property(expressions, (expression) => {
        fc.pre(expression.length <= EXPRESSION_LENGTH_MAX && !/\({40}/.test(expression))
        const expected = new Function(`return ${expression}`)() as number
        fc.pre(Number.isSafeInteger(expected))
        expect(evaluate(expression)).toBe(Number(expected.toPrecision(15)))
      }),
    )
  })

  it('never hangs or fails in another way, whatever it is given', () => {
    const text = fc.string({ unit: fc.constantFrom(...'0123456789.+-*/%^(), episqrtmax'), maxLength: 60 })

    fc.assert(
      fc.property(text, (expression) => {
        try {
          expect(Number.isFinite(evaluate(expression))).toBe(true)
        } catch (error) {
          expect((error as Error).name).toBe('ExpressionError')
        }
      }),
    )
  })

  it('answers as a tool, and its errors go back to the model', async () => {
    const session = openSession({ runtime: 'calculator' }, { log: silentLog() })

    const [tool] = await session.list()

    expect(tool).toMatchObject({ name: 'calculate', readOnlyHint: true, idempotentHint: true })
    expect(await callTool(session, 'calculate', { expression: '6 * 7' })).toEqual({ value: { result: 42 }, isError: false })
    expect(await callTool(session, 'calculate', { expression: '6 *' })).toEqual({
      value: 'the expression ends at position 4; expected a number, a name or "("',
      isError: true,
    })
    expect((await callTool(session, 'calculate', { formula: '1' })).isError).toBe(true)
    await session.close()
  })
})

describe('echo', () => {
  it('answers what it was given', async () => {
    const session = openSession({ runtime: 'echo' }, { log: silentLog() })

    expect(await callTool(session, 'echo', { text: 'ä 🎈\n' })).toEqual({ value: 'ä 🎈\n', isError: false })
    expect((await session.list())[0]).toMatchObject({ name: 'echo', readOnlyHint: true, idempotentHint: true })
    await session.close()
  })
})
