import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { allowedBaggage, parseBaggageKeys } from '../../telemetry/baggage.ts'

describe('baggage that leaves', () => {
  // https://www.w3.org/TR/baggage/#examples-of-http-headers and its grammar.
  const kept: readonly (readonly [string, string, readonly string[], string])[] = [
    [
      'what is named, in its order',
      'userId=alice,serverNode=DF%2028,isProduction=false',
      ['isProduction', 'userId'],
      'userId=alice,isProduction=false',
    ],
    ['percent-encoding', 'serverNode=DF%2028', ['serverNode'], 'serverNode=DF%2028'],
    ['properties', 'a=1;ttl=30;private,b=2', ['a'], 'a=1;ttl=30;private'],
    ['white space around nothing', 'a \t=\t 1 ; p = 2 ;q , b = 3', ['a', 'b'], 'a=1;p=2;q,b=3'],
    ['an empty value', 'a=', ['a'], 'a='],
    ['an equals sign in a value', 'a=b=c', ['a'], 'a=b=c'],
    ['a key that comes twice', 'a=1,a=2', ['a'], 'a=1,a=2'],
  ]
  for (const [what, given, keys, expected] of kept) {
    it(`keeps ${what}`, () => expect(allowedBaggage(given, keys)).toBe(expected))
  }

  const dropped: readonly (readonly [string, string | undefined, readonly string[]])[] = [
    ['all of it where no key is allowed', 'a=1', []],
    ['a key in other letters', 'Tenant=acme', ['tenant']],
    ['a member without a value', 'a', ['a']],
    ['a member without a key', '=1', ['']],
    ['a key with a space in it', 'a b=1', ['a b']],
    ['a value with a space in it', 'a=1 2', ['a']],
    ['a value with a quotation mark', 'a="1"', ['a']],
    ['a value with a backslash', 'a=\\1', ['a']],
    ['a value beyond ASCII', 'a=\u00e9', ['a']],
    ['a value with a line break', 'a=1\r\nX-Other:_1', ['a']],
    ['a member whose property is malformed', 'a=1;p q', ['a']],
    ['a member whose property is empty', 'a=1;', ['a']],
    ['nothing', undefined, ['a']],
    ['empty members', ',,', ['a', '']],
  ]
  for (const [what, given, keys] of dropped) {
    it(`drops ${what}`, () => expect(allowedBaggage(given, keys)).toBeUndefined())
  }

  it('is named by a list with commas between', () => {
    expect(parseBaggageKeys(' tenant, region,,')).toEqual(['tenant', 'region'])
    expect(parseBaggageKeys(undefined)).toEqual([])
  })

  it('keeps the good members beside a malformed one', () => {
    expect(allowedBaggage('a=1,b=2 3,c=4', ['a', 'b', 'c'])).toBe('a=1,c=4')
  })

  it('is a header in any case, and the same when it is filtered again', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[ab=;, %\t"]*$/)), (given) => {
        const allowed = allowedBaggage(given, ['a', 'b', 'ab'])
        expect(allowed ?? 'a=1').toMatch(/^[\x21-\x7e]+$/)
        expect(allowedBaggage(allowed, ['a', 'b', 'ab'])).toBe(allowed)
      }),
    )
  })
})
