package dev.bnncc

import org.tensorflow.lite.Delegate

/**
 * Runs the binary layers of a file compiled by bnncc, in TensorFlow Lite 2.14 or later, or LiteRT.
 *
 *     BnnccDelegate(threads = 4).use { delegate ->
 *         val options = Interpreter.Options().addDelegate(delegate).setNumThreads(4)
 *         Interpreter(model, options).use { it.run(input, output) }
 *     }
 *
 * Close the interpreter first. With threads = 0 the delegate uses as many as the interpreter.
 */
class BnnccDelegate(threads: Int = 0) : Delegate, AutoCloseable {
    private var handle = create(threads)

    init {
        require(handle != 0L) { "bnncc: threads must be a number from 0 to 64" }
    }

    override fun getNativeHandle(): Long = handle

    override fun close() {
        destroy(handle)
        handle = 0L
    }

    private companion object {
        init {
            System.loadLibrary("bnncc_runtime")
        }

        external fun create(threads: Int): Long

        external fun destroy(handle: Long)
    }
}
