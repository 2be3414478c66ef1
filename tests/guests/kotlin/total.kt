// A program in Kotlin/Wasm, with its collector and its exceptions: totals an order, each line of which is a price and a quantity.
@file:OptIn(kotlin.wasm.unsafe.UnsafeWasmMemoryApi::class, kotlin.wasm.ExperimentalWasmInterop::class)

import kotlin.wasm.WasmImport
import kotlin.wasm.unsafe.Pointer
import kotlin.wasm.unsafe.withScopedMemoryAllocator

private const val CHUNK = 4096
private const val BAD_INPUT = 65

@WasmImport("wasi_snapshot_preview1", "fd_read")
private external fun fdRead(file: Int, vectors: Int, count: Int, read: Int): Int

@WasmImport("wasi_snapshot_preview1", "proc_exit")
private external fun exit(code: Int)

class NotAnItem(line: String) : Exception("no price and quantity: $line")

fun main() {
    try {
        println(total(standardInput()))
    } catch (error: NotAnItem) {
        println(error.message)
        exit(BAD_INPUT)
    }
}

fun total(order: String): Double = order.lines().filter { it.isNotBlank() }.sumOf { line ->
    val numbers = line.trim().split(' ').map { it.toDoubleOrNull() ?: throw NotAnItem(line) }
    if (numbers.size != 2) throw NotAnItem(line)
    numbers[0] * numbers[1]
}

private fun standardInput(): String {
    val bytes = mutableListOf<Byte>()
    withScopedMemoryAllocator { memory ->
        val (buffer, vector, read) = listOf(memory.allocate(CHUNK), memory.allocate(8), memory.allocate(4))
        vector.storeInt(buffer.address.toInt())
        (vector + 4).storeInt(CHUNK)
        while (true) {
            val failed = fdRead(0, vector.address.toInt(), 1, read.address.toInt())
            val length = read.loadInt()
            check(failed == 0) { "standard input can't be read" }
            if (length == 0) break
            for (at in 0 until length) bytes.add(Pointer(buffer.address + at.toUInt()).loadByte())
        }
    }
    return bytes.toByteArray().decodeToString()
}
