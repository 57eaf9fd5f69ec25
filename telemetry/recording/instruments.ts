/** The metrics of one service: made when they are first used, with labels that stay few whatever models and tools are called. */
import type { Meter, Attributes as MetricAttributes } from '@opentelemetry/api'
import { type Labels, METRICS, type Metric, type MetricDefinition } from '../metrics.ts'
import type { Gauges } from '../telemetry.ts'

/** A model may make up names of tools: further values of a label count as `_other`. */
export const LABEL_VALUES_MAX = 200
export const OTHER = '_other'
/** A server may call its model anything. */
const LABEL_CHARS_MAX = 256

const GAUGES = ['active', 'parked', 'backlog'] as const satisfies readonly (keyof Gauges & Metric)[]

type Add = (value: number, labels: MetricAttributes) => void

export class Instruments {
  readonly #meter: Meter
  readonly #adds = new Map<Metric, Add>()
  readonly #values = new Map<string, Set<string>>()
  #read: (() => Gauges) | undefined

  constructor(meter: Meter) {
    this.#meter = meter
  }

  readonly count = (metric: Metric, value: number, labels: Labels): void => {
    let add = this.#adds.get(metric)
    if (!add) {
      add = this.#create(METRICS[metric])
      this.#adds.set(metric, add)
    }
    const bounded: MetricAttributes = {}
    for (const label in labels) {
      const given = labels[label]
      if (given !== undefined)
        bounded[label] = typeof given === 'string' ? this.#bounded(label, given.slice(0, LABEL_CHARS_MAX)) : given
    }
    add(value, bounded)
  }

  observe(read: () => Gauges): void {
    const isFirst = !this.#read
    this.#read = read
    if (!isFirst) return
    for (const gauge of GAUGES) {
      const { name, unit, description } = METRICS[gauge]
      this.#meter.createObservableGauge(name, { unit, description }).addCallback((result) => result.observe(this.#read!()[gauge]))
    }
  }

  #create({ name, unit, kind, description, buckets }: MetricDefinition): Add {
    if (kind === 'counter') {
      const counter = this.#meter.createCounter(name, { unit, description })
      return (value, labels) => counter.add(value, labels)
    }
    const advice = buckets ? { explicitBucketBoundaries: [...buckets] } : {}
    const histogram = this.#meter.createHistogram(name, { unit, description, advice })
    return (value, labels) => histogram.record(value, labels)
  }

  #bounded(label: string, value: string): string {
    let known = this.#values.get(label)
    if (!known) {
      known = new Set()
      this.#values.set(label, known)
    }
    if (known.has(value)) return value
    if (known.size >= LABEL_VALUES_MAX) return OTHER
    known.add(value)
    return value
  }
}
