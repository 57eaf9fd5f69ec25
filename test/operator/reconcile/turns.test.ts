import { expect, it } from 'vitest'
import { Turns } from '../../../operator/reconcile/turns.ts'

it('lets one after the other work on a key, in the order in which they ask, also after one that failed', async () => {
  const turns = new Turns()
  const order: string[] = []
  const first = Promise.withResolvers<void>()

  const a = turns.take('x', async () => {
    await first.promise
    order.push('a')
    throw new Error('no')
  })
  const b = turns.take('x', async () => void order.push('b'))
  const other = turns.take('y', async () => void order.push('other'))
  await other
  first.resolve()

  await expect(a).rejects.toThrow('no')
  await b
  expect(order).toEqual(['other', 'a', 'b'])
})
