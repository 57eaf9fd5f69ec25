/** How long a process that is told to end may finish what it has. */
import { expect, it } from 'vitest'
import { readGraceMs } from '../../cli/process/interrupt.ts'

it('is 25 s, unless KAOS_GRACE_SECONDS says another number of seconds', () => {
  expect([{}, { KAOS_GRACE_SECONDS: '' }, { KAOS_GRACE_SECONDS: '590' }, { KAOS_GRACE_SECONDS: '0' }].map(readGraceMs)).toEqual([
    25_000, 25_000, 590_000, 0,
  ])
})

it.each(['soon', '-1', '1.5', '86401'])('is a mistake when it says "%s"', (text) => {
  expect(() => readGraceMs({ KAOS_GRACE_SECONDS: text })).toThrow(
    `KAOS_GRACE_SECONDS is "${text}"; whole seconds from 0 to 86400 are needed`,
  )
})
