/** How much memory the bodies of all requests may take at one time, so that large or slow ones refuse each other and end no process. */
import { KaosError } from '../../bus/wire/errors.ts'
import { HTTP_LIMITS } from '../limits.ts'

/** The place of one body. */
export interface Place {
  /** The body has so many bytes now. Throws `queue_full`. */
  grow(bytes: number): void
  /** The body is needed no more; again is harmless. */
  leave(): void
}

export class Room {
  private readonly bytesMax: number
  private taken = 0

  constructor(bytesMax: number = HTTP_LIMITS.largeBodiesBytesMax) {
    this.bytesMax = bytesMax
  }

  enter(): Place {
    let own = 0
    return {
      grow: (bytes) => {
        if (bytes <= HTTP_LIMITS.smallBodyBytesMax) return
        if (this.taken - own + bytes > this.bytesMax)
          throw new KaosError('queue_full', `requests of ${this.taken} bytes are being read and sent on already`)
        this.taken += bytes - own
        own = bytes
      },
      leave: () => {
        this.taken -= own
        own = 0
      },
    }
  }
}
