/** How many days `kaos up` keeps what has ended. */
import { expect, it } from 'vitest'
import { daysKept, readRetentionDays } from '../../cli/running/retention.ts'

it('is what KAOS_RETENTION_DAYS says, else 30 on its own broker, and for ever on one of somebody else', () => {
  const said = ['90', '0', '7', '', undefined].map((KAOS_RETENTION_DAYS) => readRetentionDays({ KAOS_RETENTION_DAYS }))

  expect(said.map((days) => daysKept(days, true))).toEqual([90, 0, 7, 30, 30])
  expect(said.map((days) => daysKept(days, false))).toEqual([90, 0, 7, 0, 0])
})

it.each(['soon', '-1', '6', '7.5', '36501'])('is a mistake when it says "%s"', (text) => {
  expect(() => readRetentionDays({ KAOS_RETENTION_DAYS: text })).toThrow(
    `KAOS_RETENTION_DAYS is "${text}"; whole days from 7 to 36500, or 0: for ever, is needed`,
  )
})
