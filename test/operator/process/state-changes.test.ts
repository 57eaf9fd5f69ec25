import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { StateChanges } from '../../../operator/process/state-changes.ts'

const agent = { namespace: 'team', name: 'a' }

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

it('looks at once when the count changes, and now and then while only the backlog does', () => {
  const looked: string[] = []
  const changes = new StateChanges((key) => looked.push(key))

  changes.note(agent, 'True 1')
  changes.note(agent, 'True 1')
  changes.note(agent, 'True 1')
  const atOnce = [...looked]
  vi.advanceTimersByTime(15_000)
  const later = [...looked]
  changes.note(agent, 'True 2')

  expect([atOnce, later, looked]).toEqual([['team/a'], ['team/a', 'team/a'], ['team/a', 'team/a', 'team/a']])
})

it('knows of whom nothing was told', () => {
  const changes = new StateChanges(() => {})
  const before = changes.hasTold(agent)

  changes.note(agent, 'True 1')
  const told = changes.hasTold(agent)
  changes.forget(agent)

  expect([before, told, changes.hasTold(agent)]).toEqual([false, true, false])
})
