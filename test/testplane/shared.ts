/** The plane that the run has started, for a test file. Only under `test/vitest.cluster.config.ts`. */
import { afterAll, afterEach, inject } from 'vitest'
import { Plane } from './plane.ts'

const HEAL_MS = 300_000

/**
 * To be called at the top of a test file; its connections close after the last test. Files run one after the other, so a test may restart
 * parts, as long as they run again at its end; what comes next waits until the plane works again. Each file works in namespaces of its own: `plane.newNamespace('name')`.
 */
export function sharedPlane(): Plane {
  const plane = new Plane(inject('plane'))
  afterEach(() => plane.untilHealed(), HEAL_MS)
  afterAll(() => plane.close())
  return plane
}
