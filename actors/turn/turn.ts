/**
 * One turn: everything a delivery causes, until the actor waits for mail only. Nothing leaves before its entry stands; the ack comes last.
 * A death anywhere in between is a redelivery that resumes here.
 */
import type { Delivery } from '../../bus/contracts.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import type { Mail } from '../../bus/wire/message.ts'
import type { Pending } from '../actor.ts'
import type { Host } from '../host.ts'
import { causeOf } from './cause.ts'
import type { Cause } from './running.ts'
import { Sends } from './sends.ts'

export async function takeTurn(delivery: Delivery, mail: Mail, host: Host): Promise<void> {
  const owner = delivery.message.delivery
  const actor = await host.open(mail, delivery.count)
  const sends = new Sends()
  const { courier } = host
  let isHolder = false
  let isAgain = false
  const release = () => {
    host.spans.drop(owner)
    delivery.release()
  }
  try {
    if (!(await step(await causeOf(actor, mail, host.options, delivery.message.sentAt))) && !(await resume())) return release()
    for (let cause = await actor.running.next(owner); cause; cause = await actor.running.next(owner)) {
      await host.at('after-effect', actor)
      await step(cause)
    }
    // Another host took over what we began, or so long ago that nobody knows: its ack counts. Ours would delete the mail that it still needs.
    if (isHolder && !host.isOwner(actor, owner)) return release()
    await sends.settled()
    await host.at('before-ack', actor)
    if (host.spans.leaves(delivery)) return release()
    await host.spans.record(actor, owner, isAgain)
    delivery.ack()
  } catch (error) {
    actor.running.abortUnless((_id, ofDelivery) => ofDelivery !== owner)
    host.spans.drop(owner)
    throw error
  } finally {
    host.close(actor)
  }

  /** Decides one cause and appends it; after a lost race decides again on the winner's state. False: there was nothing to decide. */
  function step(cause: Cause): Promise<boolean> {
    return actor.lock.run(async () => {
      while (await host.accepts(actor, mail, cause, delivery)) {
        if (cause.local && host.lostOwnership(actor, owner)) break
        const stood = await host.decideAndAppend(actor, mail, cause, owner)
        if (stood === 'lost') continue
        isHolder = true
        letGo()
        // An append that took long may have been overtaken: the new owner of the delivery begins what it asked for.
        if (stood === 'overtaken') return true
        const { n } = stood
        if (n === 0) sends.add(courier.announce(actor))
        for (const effect of actor.state!.pending.values()) if (effect.n === n) begin(effect)
        sends.add(...courier.stops(actor))
        if (actor.state!.outcome) sends.add(courier.conclude(actor, mail))
        return true
      }
      letGo()
      return false
    })
  }

  /** What is answered or stopped, or belongs to a host that took over, is not worked on any more, in whatever turn it was begun. */
  function letGo(): void {
    const { state } = actor
    actor.running.abortUnless((id, of) => (state?.pending.has(id) ?? false) && !host.lostOwnership(actor, of))
  }

  /** This delivery was decided before. What it began and nobody answered is begun again, under a new fence. */
  async function resume(): Promise<boolean> {
    return actor.lock.run(async () => {
      if (!actor.state)
        throw new KaosError('unknown_effect', `mail "${mail.id}" is for task "${mail.task}", which no journal knows`)
      isAgain = true
      const mine = () => [...actor.state!.pending.values()].filter((effect) => effect.delivery === owner)
      if (mine().some((effect) => courier.isLocal(effect))) {
        if (!(await host.fence(actor, mail, owner))) return false
        isHolder = true
      }
      for (const effect of mine()) begin(effect)
      sends.add(...courier.again(actor, mail, owner))
      return true
    })
  }

  /** By mail: send and forget, the answer is mail. Local: run it; its answer is the next cause. */
  function begin(effect: Pending): void {
    const way = courier.wayOf(actor, effect)
    if (way.kind === 'local') actor.running.start(effect.id, owner, way.run)
    else sends.add(courier.send(actor, way.message))
  }
}
