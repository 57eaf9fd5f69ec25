/** What `import … from 'kaos-actors/testing'` offers: tests of machines and of whole systems without a model, a cluster or a network. */
import type { TestSystem } from '../cli/running/test-system.ts'

export { type Driven, type DrivenOutcome, drive, type PendingEffect } from '../actors/testing/drive.ts'
export type { TaskResult, TestSystem } from '../cli/running/test-system.ts'
export type { Verdict } from '../replay/verdict.ts'

/**
 * Runs a system for a test: a real broker of its own in a folder that is deleted afterwards, the agents and tool servers of the manifests, and
 * the offline model for every agent, whatever keys are set. It follows `<manifest>.script.yaml` beside a manifest.
 *
 * @param manifests Files or folders.
 */
export async function runSystem(manifests: string | readonly string[]): Promise<TestSystem> {
  // A test of a machine alone needs nothing of this.
  const { runSystem: run } = await import('../cli/running/test-system.ts')
  return run(manifests)
}
