// Operations between threads: barriers, shuffles, votes and atomics.
#pragma once

#include <bit>
#include <type_traits>

#include "block.h"

namespace cuda_shim {

// The bits of a value, extended to the 64 bits that lanes exchange.
template <typename T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <typename T>
T from_bits(uint64_t bits) {
  T value;
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}

// source(lane, first) returns the lane to read from. `first` is the first lane of the group of `width` lanes.
template <typename T, typename F>
T shuffle(unsigned mask, T value, int width, Where where, F source) {
  if (width < 1 || width > warpSize || !std::has_single_bit(static_cast<unsigned>(width))) {
    fail("a shuffle's width must be a power of two of at most 32", where);
  }
  const uint64_t* values = warp_exchange(mask, to_bits(value), where);
  const int own = static_cast<int>(lane()), first = own & ~(width - 1);
  return from_bits<T>(values[source(own, first)]);
}

template <typename T, typename F>
T reduce(unsigned mask, T value, Where where, F combine) {
  const uint64_t* values = warp_exchange(mask, to_bits(value), where);
  T sum = from_bits<T>(values[0]);
  for (int other = 1; other < warpSize; ++other) sum = combine(sum, from_bits<T>(values[other]));
  return sum;
}

template <typename T, typename F>
T atomic(T* address, F update) {
  const T old = *address;
  *address = update(old);
  return old;
}

}  // namespace cuda_shim

#define CUDA_SHIM_WHERE cuda_shim::Where where = cuda_shim::Where::current()

inline void __syncthreads(CUDA_SHIM_WHERE) { cuda_shim::block_barrier(false, where); }
inline int __syncthreads_count(int predicate, CUDA_SHIM_WHERE) { return cuda_shim::block_barrier(predicate, where); }
inline int __syncthreads_or(int predicate, CUDA_SHIM_WHERE) { return cuda_shim::block_barrier(predicate, where) > 0; }
inline int __syncthreads_and(int predicate, CUDA_SHIM_WHERE) {
  return cuda_shim::block_barrier(!predicate, where) == 0;
}

inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_SHIM_WHERE) { cuda_shim::warp_exchange(mask, 0, where); }

template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = warpSize, CUDA_SHIM_WHERE) {
  return cuda_shim::shuffle(mask, value, width, where, [=](int, int first) { return first + (from & (width - 1)); });
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, CUDA_SHIM_WHERE) {
  return cuda_shim::shuffle(mask, value, width, where, [=](int own, int first) {
    return own - static_cast<int>(delta) < first ? own : own - static_cast<int>(delta);
  });
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, CUDA_SHIM_WHERE) {
  return cuda_shim::shuffle(mask, value, width, where, [=](int own, int first) {
    return own + static_cast<int>(delta) >= first + width ? own : own + static_cast<int>(delta);
  });
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize, CUDA_SHIM_WHERE) {
  return cuda_shim::shuffle(mask, value, width, where, [=](int own, int first) {
    return (own ^ lane_mask) >= first + width ? own : (own ^ lane_mask) & (warpSize - 1);
  });
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_SHIM_WHERE) {
  const uint64_t* values = cuda_shim::warp_exchange(mask, predicate != 0, where);
  unsigned ballot = 0;
  for (int other = 0; other < warpSize; ++other) ballot |= static_cast<unsigned>(values[other]) << other;
  return ballot;
}
inline int __any_sync(unsigned mask, int predicate, CUDA_SHIM_WHERE) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDA_SHIM_WHERE) {
  return __ballot_sync(mask, predicate, where) == 0xffffffffu;
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value, CUDA_SHIM_WHERE) {
  const uint64_t* values = cuda_shim::warp_exchange(mask, cuda_shim::to_bits(value), where);
  unsigned equal = 0;
  for (int other = 0; other < warpSize; ++other) {
    equal |= static_cast<unsigned>(values[other] == cuda_shim::to_bits(value)) << other;
  }
  return equal;
}

#define CUDA_SHIM_REDUCE(name, type, expression)                                                     \
  inline type __reduce_##name##_sync(unsigned mask, type value, CUDA_SHIM_WHERE) {                   \
    return cuda_shim::reduce(mask, value, where, [](type a, type b) -> type { return expression; }); \
  }
CUDA_SHIM_REDUCE(add, unsigned, a + b)
CUDA_SHIM_REDUCE(min, unsigned, a < b ? a : b)
CUDA_SHIM_REDUCE(max, unsigned, a < b ? b : a)
CUDA_SHIM_REDUCE(add, int, static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b)))
CUDA_SHIM_REDUCE(min, int, a < b ? a : b)
CUDA_SHIM_REDUCE(max, int, a < b ? b : a)
CUDA_SHIM_REDUCE(and, unsigned, a& b)
CUDA_SHIM_REDUCE(or, unsigned, a | b)
CUDA_SHIM_REDUCE(xor, unsigned, a ^ b)
#undef CUDA_SHIM_REDUCE

// Only one thread runs at a time, so plain updates are atomic here.
#define CUDA_SHIM_ATOMIC(name, type, expression)                                     \
  inline type name(type* address, type value) {                                      \
    return cuda_shim::atomic(address, [=](type old) -> type { return expression; }); \
  }
#define CUDA_SHIM_ATOMICS(type, unsigned_type)                                                             \
  CUDA_SHIM_ATOMIC(atomicAdd, type,                                                                        \
                   static_cast<type>(static_cast<unsigned_type>(old) + static_cast<unsigned_type>(value))) \
  CUDA_SHIM_ATOMIC(atomicMin, type, old < value ? old : value)                                             \
  CUDA_SHIM_ATOMIC(atomicMax, type, old < value ? value : old)                                             \
  CUDA_SHIM_ATOMIC(atomicAnd, type, old& value)                                                            \
  CUDA_SHIM_ATOMIC(atomicOr, type, old | value)                                                            \
  CUDA_SHIM_ATOMIC(atomicXor, type, old ^ value)                                                           \
  CUDA_SHIM_ATOMIC(atomicExch, type, (static_cast<void>(old), value))                                      \
  inline type atomicCAS(type* address, type expected, type value) {                                        \
    return cuda_shim::atomic(address, [=](type old) { return old == expected ? value : old; });            \
  }
CUDA_SHIM_ATOMICS(int, unsigned)
CUDA_SHIM_ATOMICS(unsigned, unsigned)
CUDA_SHIM_ATOMICS(unsigned long long, unsigned long long)
CUDA_SHIM_ATOMIC(atomicSub, int, old - value)
CUDA_SHIM_ATOMIC(atomicSub, unsigned, old - value)
CUDA_SHIM_ATOMIC(atomicAdd, float, old + value)
CUDA_SHIM_ATOMIC(atomicAdd, double, old + value)
#undef CUDA_SHIM_ATOMICS
#undef CUDA_SHIM_ATOMIC
