/** Arithmetic: reads and evaluates an expression in one pass, by recursive descent. */

export const EXPRESSION_LENGTH_MAX = 1_000
/** Parentheses, signs and powers within each other: the depth of the call stack. */
const DEPTH_MAX = 100

const CONSTANTS: Readonly<Record<string, number>> = { pi: Math.PI, e: Math.E }
const FUNCTIONS: Readonly<Record<string, { readonly run: (...values: number[]) => number; readonly count: number | 'many' }>> = {
  abs: { run: Math.abs, count: 1 },
  ceil: { run: Math.ceil, count: 1 },
  cos: { run: Math.cos, count: 1 },
  exp: { run: Math.exp, count: 1 },
  floor: { run: Math.floor, count: 1 },
  ln: { run: Math.log, count: 1 },
  log10: { run: Math.log10, count: 1 },
  max: { run: Math.max, count: 'many' },
  min: { run: Math.min, count: 'many' },
  round: { run: Math.round, count: 1 },
  sin: { run: Math.sin, count: 1 },
  sqrt: { run: Math.sqrt, count: 1 },
  tan: { run: Math.tan, count: 1 },
}
export const FUNCTION_NAMES: readonly string[] = Object.keys(FUNCTIONS)

const NUMBER = /(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?/y
const NAME = /[A-Za-z][A-Za-z0-9]*/y
const SPACE = /\s*/y

/**
 * The value, rounded to 15 significant digits so that 0.1 + 0.2 is 0.3. Powers bind to the right and tighter than a sign: -2^2 is -4. Throws an
 * error that names the position, counted from 1.
 */
export function evaluate(expression: string): number {
  if (expression.length > EXPRESSION_LENGTH_MAX) {
    throw new ExpressionError(`the expression has ${expression.length} characters; at most ${EXPRESSION_LENGTH_MAX} are allowed`)
  }
  const value = new Reader(expression).all()
  if (!Number.isFinite(value)) throw new ExpressionError('the result is not a finite number')
  return Number(value.toPrecision(15))
}

export class ExpressionError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ExpressionError'
  }
}

class Reader {
  private readonly text: string
  private at = 0
  private depth = 0

  constructor(text: string) {
    this.text = text
  }

  all(): number {
    const value = this.sum()
    if (this.at < this.text.length) throw this.unexpected('an operator')
    return value
  }

  private sum(): number {
    let value = this.product()
    for (;;) {
      if (this.take('+')) value += this.product()
      else if (this.take('-')) value -= this.product()
      else return value
    }
  }

  private product(): number {
    let value = this.signed()
    for (;;) {
      if (this.take('*')) value *= this.signed()
      else if (this.take('/')) value /= this.divisor()
      else if (this.take('%')) value %= this.divisor()
      else return value
    }
  }

  private divisor(): number {
    const at = this.at
    const value = this.signed()
    if (value === 0) throw new ExpressionError(`division by zero at position ${at + 1}`)
    return value
  }

  private signed(): number {
    return this.nested(() => {
      if (this.take('-')) return -this.signed()
      if (this.take('+')) return this.signed()
      return this.power()
    })
  }

  private power(): number {
    const base = this.operand()
    return this.take('^') ? base ** this.signed() : base
  }

  private operand(): number {
    if (this.take('(')) return this.closed(this.sum())
    const number = this.match(NUMBER)
    if (number !== undefined) return Number(number)
    const at = this.at
    const name = this.match(NAME)?.toLowerCase()
    if (name === undefined) throw this.unexpected('a number, a name or "("')
    if (Object.hasOwn(CONSTANTS, name)) return CONSTANTS[name]!
    if (Object.hasOwn(FUNCTIONS, name)) return this.call(name, at)
    throw new ExpressionError(
      `unknown name "${name}" at position ${at + 1}; known are ${[...Object.keys(CONSTANTS), ...FUNCTION_NAMES].join(', ')}`,
    )
  }

  private call(name: string, at: number): number {
    const { run, count } = FUNCTIONS[name]!
    if (!this.take('(')) throw this.unexpected(`"(" after "${name}"`)
    const values = [this.sum()]
    while (this.take(',')) values.push(this.sum())
    const value = this.closed(run(...values))
    if (count !== 'many' && values.length !== count) {
      throw new ExpressionError(`"${name}" at position ${at + 1} takes ${count} value, not ${values.length}`)
    }
    return value
  }

  private closed(value: number): number {
    if (!this.take(')')) throw this.unexpected('")"')
    return value
  }

  private nested(read: () => number): number {
    if (++this.depth > DEPTH_MAX) throw new ExpressionError(`nested deeper than ${DEPTH_MAX} at position ${this.at + 1}`)
    const value = read()
    this.depth--
    return value
  }

  private take(sign: string): boolean {
    this.match(SPACE)
    if (this.text[this.at] !== sign) return false
    this.at++
    this.match(SPACE)
    return true
  }

  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at
    const found = pattern.exec(this.text)?.[0]
    if (found !== undefined) this.at += found.length
    return found
  }

  private unexpected(wanted: string): ExpressionError {
    const given = this.text[this.at]
    const what = given === undefined ? 'the expression ends' : `unexpected "${given}"`
    return new ExpressionError(`${what} at position ${this.at + 1}; expected ${wanted}`)
  }
}
