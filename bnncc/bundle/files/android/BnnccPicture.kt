package dev.bnncc

import android.graphics.Bitmap
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

/**
 * Makes a network's input of a Bitmap, by the preprocessing that the file was compiled with.
 *
 *     val picture = BnnccPicture(rows = 224, columns = 224, resize = 256, crop = true, mean = …, std = …)
 *     interpreter.run(picture.load(bitmap), output)
 *
 * The README of the bundle has the arguments for its file. The same pixels become the same bytes as in bnncc, those of
 * torchvision's Resize and CenterCrop on Pillow's pictures. They are computed here because Bitmap.createScaledBitmap
 * takes four neighbours where Pillow averages over all that fall on a pixel. What is left to differ: the pixels of a
 * JPEG, as Android decodes it; the colours of transparent pixels; and some of a picture that is more than twice as high
 * as wide and made smaller, whose height Pillow resizes first from version 13 on: by a level, with bicubic by more at
 * hard edges.
 *
 * The bitmap must be upright (BitmapFactory does not turn it as EXIF says, ImageDecoder does) and in memory, not in the
 * GPU's (ImageDecoder: allocator = ALLOCATOR_SOFTWARE). Not for several threads at a time.
 *
 * rows, columns, channels: of the input, of one image; 1 channel takes the picture's luma. resize: what the shorter
 * side becomes; 0 leaves the picture as it is. crop: whether the centre is cut out, or the picture must have the
 * input's size. An input of floats is (pixel / divisor - mean) / std, with one mean and std for all channels or one for
 * each.
 */
class BnnccPicture(
    private val rows: Int,
    private val columns: Int,
    private val channels: Int = 3,
    private val type: Type = Type.FLOAT32,
    private val channelsFirst: Boolean = false,
    private val resize: Int = 0,
    private val bicubic: Boolean = false,
    private val crop: Boolean = false,
    private val divisor: Float = 255f,
    private val mean: FloatArray = floatArrayOf(0f),
    private val std: FloatArray = floatArrayOf(1f)
) {
    /** Of the input's numbers; INT8 is the pixel less 128. */
    enum class Type(internal val bytes: Int) { FLOAT32(4), UINT8(1), INT8(1) }

    private val buffer =
        ByteBuffer.allocateDirect(type.bytes * rows * columns * channels).order(ByteOrder.nativeOrder())

    init {
        require(channels == 1 || channels == 3) { "bnncc: a picture has 1 or 3 channels, not $channels" }
        for (values in listOf(mean, std)) {
            require(values.size == 1 || values.size == channels) { "bnncc: ${values.size} values, $channels channels" }
        }
    }

    /** The input's bytes, in a buffer that the next call fills again. IllegalArgumentException at a wrong size. */
    fun load(bitmap: Bitmap): ByteBuffer {
        var width = bitmap.width
        var height = bitmap.height
        if (resize > 0) {
            val shorter = min(width, height).toDouble()
            width = (resize.toLong() * width / shorter).toInt()
            height = (resize.toLong() * height / shorter).toInt()
        }
        val fits = if (crop) rows <= height && columns <= width else rows == height && columns == width
        require(fits) { "bnncc: the picture is ${height}x$width, and the network takes ${rows}x$columns" }
        val across = weights(bitmap.width, width, round((width - columns) / 2.0).toInt(), columns)
        val down = weights(bitmap.height, height, round((height - rows) / 2.0).toInt(), rows)
        val begin = down.first().begin
        val end = down.last().let { it.begin + it.values.size }
        val lines = narrowed(bitmap, begin, end, across)
        val line = columns * channels
        for (row in 0 until rows) {
            val (from, values) = down[row]
            for (place in 0 until line) {
                var sum = HALF
                var source = (from - begin) * line + place
                for (value in values) {
                    sum += (lines[source].toInt() and 255) * value
                    source += line
                }
                put(row, place / channels, place % channels, pixel(sum))
            }
        }
        buffer.rewind()
        return buffer
    }

    /** The bitmap's lines from `begin` to before `end`, resized across: [line, column, channel]. */
    private fun narrowed(bitmap: Bitmap, begin: Int, end: Int, across: List<Weights>): ByteArray {
        val lines = ByteArray((end - begin) * columns * channels)
        val colors = IntArray(bitmap.width)
        var place = 0
        for (y in begin until end) {
            bitmap.getPixels(colors, 0, bitmap.width, 0, y, bitmap.width, 1)
            if (channels == 1) colors.indices.forEach { colors[it] = luma(colors[it]) }
            for ((from, values) in across) {
                for (channel in channels - 1 downTo 0) {
                    var sum = HALF
                    for (index in values.indices) sum += (colors[from + index] shr 8 * channel and 255) * values[index]
                    lines[place++] = pixel(sum).toByte()
                }
            }
        }
        return lines
    }

    private fun put(row: Int, column: Int, channel: Int, pixel: Int) {
        val index =
            if (channelsFirst) (channel * rows + row) * columns + column
            else (row * columns + column) * channels + channel
        when (type) {
            Type.UINT8 -> buffer.put(index, pixel.toByte())
            Type.INT8 -> buffer.put(index, (pixel - 128).toByte())
            Type.FLOAT32 -> {
                val normalized = (pixel / divisor - mean[min(channel, mean.size - 1)]) / std[min(channel, std.size - 1)]
                buffer.putFloat(4 * index, normalized)
            }
        }
    }

    /** What one pixel of a resized side is made of: so much of each pixel from `begin` on, in parts of 2^BITS. */
    private data class Weights(val begin: Int, val values: IntArray)

    /**
     * The weights of `count` pixels from `first` on, of a side of `from` pixels that gets `to`.
     *
     * A pixel is the mean of those under the filter, which is as wide as the pixel where that covers several (Pillow's
     * Resample.c, whose order of rounding is kept: double, then parts of 2^22).
     */
    private fun weights(from: Int, to: Int, first: Int, count: Int): List<Weights> {
        val scale = from.toDouble() / to
        val stretch = max(scale, 1.0)
        val support = (if (bicubic) 2.0 else 1.0) * stretch
        return List(count) {
            val center = (first + it + 0.5) * scale
            val begin = max((center - support + 0.5).toInt(), 0)
            val end = min((center + support + 0.5).toInt(), from)
            val parts = DoubleArray(end - begin) { index -> filter((index + begin - center + 0.5) * (1 / stretch)) }
            val sum = parts.sum()
            Weights(begin, IntArray(parts.size) { index ->
                val part = parts[index] / sum * (1 shl BITS)
                (if (part < 0) part - 0.5 else part + 0.5).toInt()
            })
        }
    }

    /** A triangle, or Keys' cubic convolution with a = -1/2, at a distance in (stretched) pixels. */
    private fun filter(distance: Double): Double {
        val x = abs(distance)
        return when {
            !bicubic -> max(1 - x, 0.0)
            x < 1 -> ((A + 2) * x - (A + 3)) * x * x + 1
            x < 2 -> (((x - 5) * x + 8) * x - 4) * A
            else -> 0.0
        }
    }

    private companion object {
        const val BITS = 22
        const val HALF = 1 shl (BITS - 1)
        const val A = -0.5

        fun pixel(sum: Int): Int = min(max(sum shr BITS, 0), 255)

        /** ITU-R 601-2, in parts of 2^16. */
        fun luma(color: Int): Int =
            ((color shr 16 and 255) * 19595 + (color shr 8 and 255) * 38470 + (color and 255) * 7471 + 0x8000) shr 16
    }
}
