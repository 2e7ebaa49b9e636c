// SPDX-License-Identifier: Apache-2.0
#include "swap/cuda_backend.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <vector>

#include "swap/cuda/handles.h"
#include "swap/cuda/kernels.h"

namespace lamps::swap {
namespace {

constexpr std::size_t kSliceMoves = 4096;        // descriptors per slice
constexpr Bytes kLockedChunk = Bytes{64} << 30;  // drivers refuse to lock much more at once

// Everything one slice in flight needs, allocated beforehand: no allocation while the engine runs.
struct Slot {
  Event read;  // the source has been read
  Event done;
  DeviceMemory staging;
  DeviceMemory units;       // descriptors, where kernels read them
  LockedMemory units_host;  // where they are written
  bool busy = false, failed = false, staged_store = false;
};

// Consecutive moves whose sides both continue become one: what is left of a staged slice.
void append_merged(std::vector<Move>& moves, const Move& move) {
  if (!moves.empty()) {
    Move& last = moves.back();
    if (last.source + last.bytes == move.source && last.target + last.bytes == move.target) {
      last.bytes += move.bytes;
      return;
    }
  }
  moves.push_back(move);
}

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaOptions& options);
  ~CudaBackend() override;

  void attach(Address host, Bytes bytes) override;
  Mark mark(std::uint64_t stream) override;
  void release(Mark mark) override;
  [[nodiscard]] Path usable(Path path, Direction direction) const override;
  [[nodiscard]] SliceLimit slice_limit() const override {
    return {options_.staging_bytes, kSliceMoves};
  }
  Ticket start(const Slice& slice) override;
  SliceState state(Ticket ticket) override;
  [[nodiscard]] bool synchronous() const override { return false; }
  [[nodiscard]] bool device_readable() const override { return false; }

 private:
  // Over the link by the copy engine, and kernels: two streams per direction.
  struct Lane {
    Stream copies, kernels;
    std::array<Slot, kSlicesInFlight> slots;
  };

  void launch(Lane& lane, Slot& slot, const Slice& slice);
  void run_copies(std::span<const Move> moves, bool batched, cudaStream_t stream);
  void run_batch(std::span<const Move> moves, cudaStream_t stream);
  void run_kernel(Slot& slot, std::span<const Move> moves, bool bulk, int ctas,
                  cudaStream_t stream);
  void run_staged(Lane& lane, Slot& slot, const Slice& slice);
  void split_at_chunks(std::span<const Move> moves);
  [[nodiscard]] std::uint64_t until_chunk(Address address) const;

  CudaOptions options_;
  bool bulk_copies_ = false;       // the device has them
  bool host_addressable_ = false;  // kernels may use host addresses as they are
  Address host_ = 0;
  Bytes host_bytes_ = 0;
  std::vector<void*> locked_;  // registered chunks
  std::array<Lane, 2> lanes_;  // by direction

  std::mutex marks_mutex_;
  std::vector<Event> marks_;
  std::vector<Mark> free_marks_;

  // Scratch of the mover's thread.
  std::vector<Move> split_, wire_, local_;
  std::vector<void*> sources_, targets_;
  std::vector<std::size_t> sizes_;
};

int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  require(cudaDeviceGetAttribute(&value, name, device), "cudaDeviceGetAttribute");
  return value;
}

CudaBackend::CudaBackend(const CudaOptions& options) : options_(options) {
  require_in_range("staging_bytes", static_cast<double>(options.staging_bytes), 64 << 10, 1 << 30);
  require_in_range("link_ctas", options.link_ctas, 1, 1024);
  require_in_range("gather_ctas", options.gather_ctas, 1, 1024);
  if (const std::string reason = why_no_cuda(); !reason.empty()) {
    throw DeviceError("CUDA backend: " + reason);
  }
  const OnDevice here(options.device);
  bulk_copies_ = attribute(cudaDevAttrComputeCapabilityMajor, options.device) >= 9;
  host_addressable_ = attribute(cudaDevAttrCanUseHostPointerForRegisteredMem, options.device) != 0;
  // Kernels cut moves into units, of which every move leaves one short; chunks add a cut each.
  const auto units =
      2 * kSliceMoves + static_cast<std::size_t>(options.staging_bytes) / kKernelUnit;
  const auto unit_bytes = static_cast<Bytes>(units * sizeof(Move));
  for (Lane& lane : lanes_) {
    lane.copies = new_stream(false);
    lane.kernels = new_stream(true);
    for (Slot& slot : lane.slots) {
      slot.read = new_event();
      slot.done = new_event();
      slot.staging = new_device_memory(options.staging_bytes);
      slot.units = new_device_memory(unit_bytes);
      slot.units_host = new_locked_memory(unit_bytes);
    }
  }
}

CudaBackend::~CudaBackend() {
  for (Lane& lane : lanes_) {  // the mover has waited for its slices; failed ones may linger
    cudaStreamSynchronize(lane.copies.get());
    cudaStreamSynchronize(lane.kernels.get());
  }
  for (void* chunk : locked_) cudaHostUnregister(chunk);
}

void CudaBackend::attach(Address host, Bytes bytes) {
  const OnDevice here(options_.device);
  host_ = host;
  host_bytes_ = bytes;
  for (Bytes at = 0; at < bytes; at += kLockedChunk) {
    auto* chunk = reinterpret_cast<void*>(host + static_cast<Address>(at));
    const auto size = static_cast<std::size_t>(std::min(kLockedChunk, bytes - at));
    const cudaError_t status =
        cudaHostRegister(chunk, size, cudaHostRegisterPortable | cudaHostRegisterMapped);
    if (status != cudaSuccess) {
      throw OutOfHostMemory("locking " + std::to_string(size) +
                            " bytes of host memory: " + cudaGetErrorString(status));
    }
    locked_.push_back(chunk);
  }
}

Mark CudaBackend::mark(std::uint64_t stream) {
  const std::lock_guard lock(marks_mutex_);
  if (free_marks_.empty()) {
    const OnDevice here(options_.device);
    marks_.push_back(new_event());
    free_marks_.push_back(static_cast<Mark>(marks_.size()));  // from 1: 0 is kNoMark
  }
  const Mark mark = free_marks_.back();
  const Event& event = marks_[static_cast<std::size_t>(mark - 1)];
  require(cudaEventRecord(event.get(), reinterpret_cast<cudaStream_t>(stream)),
          "cudaEventRecord on the stream of a job");
  free_marks_.pop_back();
  return mark;
}

void CudaBackend::release(Mark mark) {
  const std::lock_guard lock(marks_mutex_);
  free_marks_.push_back(mark);
}

Path CudaBackend::usable(Path path, Direction direction) const {
  if (path == Path::kBulk && !bulk_copies_) path = Path::kZeroCopy;
  // Kernels that write host memory straight out of a cache in use have been seen to fault beside
  // attention kernels elsewhere, and they do not free the source early: stores are staged.
  const bool by_kernel = path == Path::kZeroCopy || path == Path::kBulk;
  return by_kernel && (direction == Direction::kStore || !host_addressable_) ? Path::kStaged : path;
}

Ticket CudaBackend::start(const Slice& slice) {
  const auto direction = static_cast<std::size_t>(slice.direction);
  Lane& lane = lanes_[direction];
  const auto free = std::find_if(lane.slots.begin(), lane.slots.end(),
                                 [](const Slot& slot) { return !slot.busy; });
  const auto index = static_cast<std::size_t>(free - lane.slots.begin());
  Slot& slot = *free;
  slot.busy = true;
  slot.staged_store = slice.path == Path::kStaged && slice.direction == Direction::kStore;
  try {
    const OnDevice here(options_.device);
    launch(lane, slot, slice);
    slot.failed = false;
  } catch (const Error&) {
    slot.failed = true;  // told by state(), once what was launched is over
  }
  return static_cast<Ticket>(direction * kSlicesInFlight + index);
}

void CudaBackend::launch(Lane& lane, Slot& slot, const Slice& slice) {
  cudaStream_t copies = lane.copies.get(), kernels = lane.kernels.get();
  if (slice.after != kNoMark) {
    cudaEvent_t after = nullptr;
    {
      const std::lock_guard lock(marks_mutex_);
      after = marks_[static_cast<std::size_t>(slice.after - 1)].get();
    }
    require(cudaStreamWaitEvent(copies, after, 0), "cudaStreamWaitEvent");
    require(cudaStreamWaitEvent(kernels, after, 0), "cudaStreamWaitEvent");
  }
  split_at_chunks(slice.moves);
  switch (slice.path) {
    case Path::kDirect:
    case Path::kBatch:
      run_copies(split_, slice.path == Path::kBatch, copies);
      require(cudaEventRecord(slot.done.get(), copies), "cudaEventRecord");
      break;
    case Path::kZeroCopy:
    case Path::kBulk:
      run_kernel(slot, split_, slice.path == Path::kBulk, options_.link_ctas, kernels);
      require(cudaEventRecord(slot.done.get(), kernels), "cudaEventRecord");
      break;
    case Path::kStaged:
      run_staged(lane, slot, slice);
      break;
  }
}

std::uint64_t CudaBackend::until_chunk(Address address) const {
  if (address < host_ || address >= host_ + static_cast<Address>(host_bytes_)) return ~0ULL;
  return static_cast<Address>(kLockedChunk) -
         (address - host_) % static_cast<Address>(kLockedChunk);
}

// No copy may straddle two registrations.
void CudaBackend::split_at_chunks(std::span<const Move> moves) {
  split_.clear();
  for (Move move : moves) {
    while (move.bytes > 0) {
      const std::uint64_t some =
          std::min({move.bytes, until_chunk(move.source), until_chunk(move.target)});
      split_.push_back({move.source, move.target, some});
      move = {move.source + some, move.target + some, move.bytes - some};
    }
  }
}

void CudaBackend::run_copies(std::span<const Move> moves, bool batched, cudaStream_t stream) {
  if (batched && CUDART_VERSION >= 12080) return run_batch(moves, stream);
  for (const Move& move : moves) {
    require(cudaMemcpyAsync(reinterpret_cast<void*>(move.target),
                            reinterpret_cast<const void*>(move.source), move.bytes,
                            cudaMemcpyDefault, stream),
            "cudaMemcpyAsync");
  }
}

void CudaBackend::run_batch([[maybe_unused]] std::span<const Move> moves,
                            [[maybe_unused]] cudaStream_t stream) {
#if CUDART_VERSION >= 12080
  sources_.clear();
  targets_.clear();
  sizes_.clear();
  for (const Move& move : moves) {
    sources_.push_back(reinterpret_cast<void*>(move.source));
    targets_.push_back(reinterpret_cast<void*>(move.target));
    sizes_.push_back(move.bytes);
  }
  cudaMemcpyAttributes attributes{};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  attributes.flags = cudaMemcpyFlagPreferOverlapWithCompute;  // copy engines, not SMs
  std::size_t first = 0;
#if CUDART_VERSION >= 13000
  require(cudaMemcpyBatchAsync(targets_.data(), sources_.data(), sizes_.data(), moves.size(),
                               &attributes, &first, 1, stream),
          "cudaMemcpyBatchAsync");
#else
  std::size_t failed = 0;
  require(cudaMemcpyBatchAsync(targets_.data(), sources_.data(), sizes_.data(), moves.size(),
                               &attributes, &first, 1, &failed, stream),
          "cudaMemcpyBatchAsync");
#endif
#endif
}

void CudaBackend::run_kernel(Slot& slot, std::span<const Move> moves, bool bulk, int ctas,
                             cudaStream_t stream) {
  auto* units = static_cast<Move*>(slot.units_host.get());
  std::size_t count = 0;
  std::uint64_t bits = 0;  // alignment of all of them
  for (const Move& move : moves) {
    for (std::uint64_t at = 0; at < move.bytes; at += kKernelUnit) {
      units[count++] = {move.source + at, move.target + at, std::min(kKernelUnit, move.bytes - at)};
    }
    bits |= move.source | move.target | move.bytes;
  }
  require(cudaMemcpyAsync(slot.units.get(), units, count * sizeof(Move), cudaMemcpyHostToDevice,
                          stream),
          "cudaMemcpyAsync of descriptors");
  const auto* moves_there = static_cast<const Move*>(slot.units.get());
  const auto launched = bulk && bits % 16 == 0 ? launch_bulk_copy : launch_register_copy;
  require(launched(moves_there, static_cast<int>(count), ctas, stream), "launch of a copy kernel");
}

// Pages and staging are next to each other on the device, so the link sees the host's side of the
// moves only: usually one long run.
void CudaBackend::run_staged(Lane& lane, Slot& slot, const Slice& slice) {
  cudaStream_t copies = lane.copies.get(), kernels = lane.kernels.get();
  const bool store = slice.direction == Direction::kStore;
  auto staging = reinterpret_cast<Address>(slot.staging.get());
  wire_.clear();
  local_.clear();
  for (const Move& move : split_) {
    local_.push_back(store ? Move{move.source, staging, move.bytes}
                           : Move{staging, move.target, move.bytes});
    append_merged(wire_, store ? Move{staging, move.target, move.bytes}
                               : Move{move.source, staging, move.bytes});
    staging += move.bytes;
  }
  if (store) {
    run_kernel(slot, local_, false, options_.gather_ctas, kernels);
    require(cudaEventRecord(slot.read.get(), kernels), "cudaEventRecord");
    require(cudaStreamWaitEvent(copies, slot.read.get(), 0), "cudaStreamWaitEvent");
    run_copies(wire_, wire_.size() > 1, copies);
    require(cudaEventRecord(slot.done.get(), copies), "cudaEventRecord");
  } else {
    run_copies(wire_, wire_.size() > 1, copies);
    require(cudaEventRecord(slot.read.get(), copies), "cudaEventRecord");
    require(cudaStreamWaitEvent(kernels, slot.read.get(), 0), "cudaStreamWaitEvent");
    run_kernel(slot, local_, false, options_.gather_ctas, kernels);
    require(cudaEventRecord(slot.done.get(), kernels), "cudaEventRecord");
  }
}

SliceState CudaBackend::state(Ticket ticket) {
  Lane& lane = lanes_[static_cast<std::size_t>(ticket) / kSlicesInFlight];
  Slot& slot = lane.slots[static_cast<std::size_t>(ticket) % kSlicesInFlight];
  if (slot.failed) {
    // Parts of the slice may have been launched: blocks are given back only when nothing runs.
    if (cudaStreamQuery(lane.copies.get()) == cudaErrorNotReady ||
        cudaStreamQuery(lane.kernels.get()) == cudaErrorNotReady) {
      return SliceState::kRunning;
    }
    slot.busy = false;
    return SliceState::kFailed;
  }
  const cudaError_t done = cudaEventQuery(slot.done.get());
  if (done == cudaErrorNotReady) {
    const bool read = slot.staged_store && cudaEventQuery(slot.read.get()) == cudaSuccess;
    return read ? SliceState::kSourceFree : SliceState::kRunning;
  }
  slot.busy = false;
  return done == cudaSuccess ? SliceState::kDone : SliceState::kFailed;
}

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options) {
  return std::make_unique<CudaBackend>(options);
}

std::string cuda_device_name(int device) {
  if (const std::string reason = why_no_cuda(); !reason.empty()) {
    throw DeviceError("CUDA device: " + reason);
  }
  cudaDeviceProp properties{};
  require(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  int driver = 0;
  require(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  std::string uuid;
  for (const char byte : properties.uuid.bytes) {
    constexpr const char* kDigits = "0123456789abcdef";
    uuid += kDigits[static_cast<unsigned char>(byte) >> 4];
    uuid += kDigits[static_cast<unsigned char>(byte) & 15];
  }
  return std::string(properties.name) + ", " + uuid + ", PCI " +
         std::to_string(properties.pciDomainID) + ":" + std::to_string(properties.pciBusID) +
         ", driver " + std::to_string(driver);
}

std::string why_no_cuda() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  return devices > 0 ? "" : "no CUDA device";
}

}  // namespace lamps::swap
