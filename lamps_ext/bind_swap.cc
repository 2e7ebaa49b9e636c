// SPDX-License-Identifier: Apache-2.0
// Swapping for Python: the scheduler's side (HostTier) and the worker's side (Mover). Blocks travel
// as int32 or int64 arrays, addresses and stream handles as integers, orders as tuples of these, so
// they can be sent to another process; tensors stay with the caller.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <span>

#include "module.h"
#include "swap/calibrate.h"
#include "swap/cpu_backend.h"
#include "swap/cuda_backend.h"
#include "swap/errors.h"
#include "swap/mover.h"

namespace py = pybind11;

namespace {

using namespace lamps::swap;
using lamps::Bytes;
using lamps::InvalidOption;
using lamps::Seconds;
using lamps::SessionHandle;

Seconds monotonic_now() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();  // as time.monotonic()
  return std::chrono::duration<double>(now).count();
}

// ------- Arrays -------

constexpr BlockId kLastId = std::numeric_limits<BlockId>::max();

template <typename Id>
std::vector<BlockId> checked_ids(const char* name, const py::array& array) {
  const auto ids = py::array_t<Id, py::array::c_style>::ensure(array);
  const std::span<const Id> all(ids.data(), static_cast<std::size_t>(ids.size()));
  std::vector<BlockId> out(all.size());
  Id signs = 0;  // a sign bit is set by a negative id, and by one beyond the last
  for (std::size_t i = 0; i < all.size(); ++i) {
    signs |= all[i] | (Id{kLastId} - all[i]);
    out[i] = static_cast<BlockId>(all[i]);
  }
  if (signs >= 0) return out;
  const Id wrong =
      *std::find_if(all.begin(), all.end(), [](Id id) { return id < 0 || id > kLastId; });
  throw InvalidOption(std::string(name) + " has " + std::to_string(wrong) +
                      ": expected numbers in [0, 2147483647]");
}

std::vector<BlockId> to_ids(const char* name, const py::array& array) {
  const bool narrow = py::isinstance<py::array_t<std::int32_t>>(array);
  if (array.ndim() != 1 || (!narrow && !py::isinstance<py::array_t<std::int64_t>>(array))) {
    throw InvalidOption(std::string(name) + " is an array of " +
                        py::str(array.dtype()).cast<std::string>() + " in " +
                        std::to_string(array.ndim()) +
                        " dimensions: expected one of int32 or int64, in one");
  }
  return narrow ? checked_ids<std::int32_t>(name, array) : checked_ids<std::int64_t>(name, array);
}

using Table = py::array_t<std::int64_t, py::array::c_style>;

void require_columns(const char* name, const Table& table, py::ssize_t columns) {
  if (table.ndim() == 2 && table.shape(1) == columns) return;
  throw InvalidOption(std::string(name) + ": expected a table of " + std::to_string(columns) +
                      " columns of int64");
}

template <typename T>
py::array_t<T> to_array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

Layout to_layout(const Table& regions, BlockId blocks) {
  require_columns("regions", regions, 3);
  const auto rows = regions.unchecked<2>();
  std::vector<Region> out;
  for (py::ssize_t i = 0; i < rows.shape(0); ++i) {
    out.push_back({static_cast<Address>(rows(i, 0)), rows(i, 1), rows(i, 2)});
  }
  return {std::move(out), blocks};
}

// ------- Names -------

template <typename Enum>
Enum from_name(const char* what, const std::string& name, int count) {
  std::string names;
  for (int i = 0; i < count; ++i) {
    const std::string candidate = to_string(static_cast<Enum>(i));
    if (candidate == name) return static_cast<Enum>(i);
    names += (i > 0 ? ", " : "") + candidate;
  }
  throw InvalidOption(std::string(what) + " = " + name + ": expected one of " + names);
}

Direction to_direction(const std::string& name) {
  return from_name<Direction>("direction", name, 2);
}
Outcome to_outcome(const std::string& name) { return from_name<Outcome>("outcome", name, 5); }
Path to_path(const std::string& name) { return from_name<Path>("path", name, kPaths); }

// ------- Orders: (job, direction, blocks, slots, pieces) -------

py::tuple to_tuple(const Order& order) {
  Table pieces({static_cast<py::ssize_t>(order.pieces.size()), py::ssize_t{3}});
  auto rows = pieces.mutable_unchecked<2>();
  for (py::ssize_t i = 0; i < rows.shape(0); ++i) {
    const Piece& piece = order.pieces[static_cast<std::size_t>(i)];
    rows(i, 0) = piece.extent.first;
    rows(i, 1) = piece.extent.rows;
    rows(i, 2) = piece.count;
  }
  return py::make_tuple(order.job, to_string(order.direction), to_array(order.blocks),
                        to_array(order.slots), pieces);
}

Order to_order(const py::tuple& tuple) {
  if (tuple.size() != 5) {
    throw InvalidOption("order of " + std::to_string(tuple.size()) +
                        " fields: expected 5, as HostTier makes them");
  }
  Order order;
  order.job = tuple[0].cast<JobId>();
  order.direction = to_direction(tuple[1].cast<std::string>());
  order.blocks = to_ids("blocks", tuple[2].cast<py::array>());
  order.slots = to_ids("slots", tuple[3].cast<py::array>());
  const auto pieces = tuple[4].cast<Table>();
  require_columns("pieces", pieces, 3);
  const auto rows = pieces.unchecked<2>();
  for (py::ssize_t i = 0; i < rows.shape(0); ++i) {
    const auto count = std::clamp<std::int64_t>(rows(i, 2), -1, std::numeric_limits<int>::max());
    order.pieces.push_back({{rows(i, 0), rows(i, 1)}, static_cast<BlockId>(count)});
  }
  return order;
}

// ------- Calibration: a dict of plain values, which any file format keeps -------

py::dict to_dict(const Calibration& calibration) {
  py::dict out;
  out["direct_min"] = calibration.direct_min;
  out["direct_moves"] = calibration.direct_moves;
  out["store_batch_min"] = calibration.store_batch_min;
  out["load_batch_min"] = calibration.load_batch_min;
  out["small_store"] = to_string(calibration.small_store);
  out["small_load"] = to_string(calibration.small_load);
  return out;
}

Calibration to_calibration(const py::dict& values) {
  Calibration out;
  for (const auto& [key, value] : values) {
    const auto name = key.cast<std::string>();
    if (name == "direct_min") {
      out.direct_min = value.cast<Bytes>();
    } else if (name == "direct_moves") {
      out.direct_moves = value.cast<std::int64_t>();
    } else if (name == "store_batch_min") {
      out.store_batch_min = value.cast<Bytes>();
    } else if (name == "load_batch_min") {
      out.load_batch_min = value.cast<Bytes>();
    } else if (name == "small_store") {
      out.small_store = to_path(value.cast<std::string>());
    } else if (name == "small_load") {
      out.small_load = to_path(value.cast<std::string>());
    } else {
      throw InvalidOption("calibration has " + name + ": expected what calibrate() returns");
    }
  }
  return out;
}

// Pages in ascending order with the rates of both directions, side by side.
py::list to_rates(const Measured& measured) {
  py::list out;
  const std::size_t sizes = measured.rates.size() / 2;  // stores, then loads of the same pages
  for (std::size_t i = 0; i < sizes; ++i) {
    const Rate& store = measured.rates[i];
    out.append(py::make_tuple(store.page, chosen_rate(measured.calibration, store),
                              chosen_rate(measured.calibration, measured.rates[sizes + i])));
  }
  return out;
}

std::unique_ptr<Backend> new_backend(int threads, std::optional<int> cuda_device) {
  if (cuda_device) return make_cuda_backend({.device = *cuda_device});
  return std::make_unique<CpuBackend>(threads);
}

py::tuple calibrate_copies(int threads, std::optional<int> cuda_device, Address scratch,
                           Bytes scratch_bytes) {
  Measured measured;
  {
    const py::gil_scoped_release release;
    const HostMemory host(scratch_bytes);
    std::optional<HostMemory> device;
    if (!cuda_device) scratch = device.emplace(scratch_bytes).base();
    const std::unique_ptr<Backend> backend = new_backend(threads, cuda_device);
    backend->attach(host.base(), host.bytes());
    measured = calibrate(*backend, {scratch, host.base(), scratch_bytes}, monotonic_now);
  }
  return py::make_tuple(to_dict(measured.calibration), to_rates(measured));
}

// ------- Functions of the classes -------

std::unique_ptr<Mover> new_mover(const Table& regions, BlockId blocks, Row host_rows,
                                 bool checksums, int threads, std::optional<int> cuda_device,
                                 const py::dict& calibration) {
  const Layout layout = to_layout(regions, blocks);
  const MoverOptions options{host_rows, checksums, to_calibration(calibration)};
  const py::gil_scoped_release release;  // maps, touches and locks host memory: seconds
  return std::make_unique<Mover>(layout, new_backend(threads, cuda_device), options, monotonic_now);
}

void submit(Mover& mover, const py::tuple& order, int priority, Seconds deadline,
            std::optional<std::uint64_t> after_stream) {
  mover.submit({to_order(order), priority, deadline, after_stream});
}

py::list poll(Mover& mover) {
  std::vector<Completion> completions;
  mover.poll(completions);
  py::list out;
  for (const Completion& done : completions) {
    out.append(py::make_tuple(done.job, done.stage == Stage::kFinished, to_string(done.outcome),
                              done.bytes, done.ended - done.started, done.ended - done.queued));
  }
  return out;
}

// A planner with the memory of its last answer, which numpy sees without a copy.
struct MovePlanner {
  explicit MovePlanner(const Layout& layout) : planner(layout) {}
  Planner planner;
  std::vector<BlockRun> runs;
  Moves moves;
  std::vector<Move> memory;
};

py::array_t<std::uint64_t> plan(py::object self, const py::array& blocks, const py::array& slots,
                                Address host, Row host_rows, const std::string& direction) {
  static_assert(sizeof(Move) == 3 * sizeof(std::uint64_t));
  auto& state = self.cast<MovePlanner&>();
  if (!state.planner.find_runs(to_ids("blocks", blocks), to_ids("slots", slots), state.runs)) {
    throw InvalidOption("blocks: expected each once");
  }
  state.moves.reset(state.planner.layout(), to_direction(direction));
  state.moves.add(state.runs, host, host_rows);
  const std::span<const Move> all = state.moves.take({}, state.memory);
  const auto count = static_cast<py::ssize_t>(all.size());
  const auto* words = reinterpret_cast<const std::uint64_t*>(all.data());
  return py::array_t<std::uint64_t>({count, py::ssize_t{3}}, words, self);
}

void bind_host_tier(py::module_& m) {
  py::class_<HostTier>(m, "HostTier",
                       "Which sessions have KV in host memory, and where: the scheduler's side.")
      .def(py::init<Row>(), py::arg("rows"), "`rows`: blocks that fit into host memory.")
      .def(
          "store",
          [](HostTier& tier, SessionHandle session, const py::array& blocks) -> py::object {
            const auto order = tier.store(session, to_ids("blocks", blocks));
            return order ? py::object(to_tuple(*order)) : py::object(py::none());
          },
          py::arg("session"), py::arg("blocks"),
          "An order to copy blocks behind what the session has here; None if they do not fit.")
      .def(
          "load",
          [](HostTier& tier, SessionHandle session, Row first, const py::array& blocks) {
            return to_tuple(tier.load(session, first, to_ids("blocks", blocks)));
          },
          py::arg("session"), py::arg("first"), py::arg("blocks"),
          "An order to copy rows from `first` on into blocks.")
      .def(
          "slots",
          [](const HostTier& tier, SessionHandle session, Row first, Row rows) {
            return to_array(tier.slots(session, first, rows));
          },
          py::arg("session"), py::arg("first"), py::arg("rows"), "For match_blocks().")
      .def(
          "finished",
          [](HostTier& tier, JobId job, const std::string& outcome) {
            tier.finished(job, to_outcome(outcome));
          },
          py::arg("job"), py::arg("outcome"), "All movers have finished; the worst outcome.")
      .def("drop", &HostTier::drop, py::arg("session"))
      .def("touch", &HostTier::touch, py::arg("session"))
      .def("rows", &HostTier::rows, py::arg("session"), "Complete rows of the session.")
      .def("jobs", &HostTier::jobs, py::arg("session"), "Jobs of the session under way.")
      .def("take_evicted", &HostTier::take_evicted,
           "Sessions that lost their rows to others since the last call.")
      .def("check_invariants", &HostTier::check_invariants)
      .def_property_readonly("free_rows", &HostTier::free_rows)
      .def_property_readonly("capacity", &HostTier::capacity);
}

void bind_mover(py::module_& m) {
  py::class_<Mover>(m, "Mover", "Copies KV blocks on a thread of its own: the worker's side.")
      .def(py::init(&new_mover), py::arg("regions"), py::arg("blocks"), py::arg("host_rows"),
           py::kw_only(), py::arg("checksums") = false, py::arg("threads") = 1,
           py::arg("cuda_device") = py::none(), py::arg("calibration") = py::dict(),
           "`regions`: an int64 table of (address, stride, page bytes), one page of every block "
           "in each. `threads` are for the CPU, used where `cuda_device` is None.")
      .def("submit", &submit, py::arg("order"), py::kw_only(), py::arg("priority") = 0,
           py::arg("deadline") = lamps::kForever, py::arg("after_stream") = py::none(),
           "Higher priority first, then earlier deadline. `after_stream`: handle of the CUDA "
           "stream whose work so far must be over. Returns at once.")
      .def("cancel", &Mover::cancel, py::arg("job"),
           "The job ends as cancelled; False if it has ended. Its blocks stay in use until then.")
      .def("poll", &poll,
           "What has happened since the last call, as (job, finished, outcome, bytes, seconds "
           "copying, seconds since submit). Not finished: the blocks of a store are free already.")
      .def("wait_idle", &Mover::wait_idle, py::arg("timeout"),
           py::call_guard<py::gil_scoped_release>(), "Whether no job is left, within seconds.")
      .def("stop", &Mover::stop, py::call_guard<py::gil_scoped_release>(),
           "Cancels all jobs and waits for copies in flight.")
      .def_property_readonly("row_bytes",
                             [](const Mover& mover) { return mover.layout().row_bytes(); })
      .def_property_readonly("host_address",
                             [](const Mover& mover) { return mover.host().base(); });
}

}  // namespace

void bind_swap(py::module_& m) {
  const py::object base = m.attr("LampsError");
  py::register_exception<OutOfHostMemory>(m, "OutOfHostMemory", base);
  py::register_exception<DeviceError>(m, "DeviceError", base);
  bind_host_tier(m);
  bind_mover(m);
  m.def(
      "match_blocks",
      [](const py::array& slots, const py::array& blocks) {
        std::vector<BlockId> matched = to_ids("blocks", blocks);
        match_blocks(to_ids("slots", slots), matched);
        return to_array(matched);
      },
      py::arg("slots"), py::arg("blocks"),
      "The blocks in the order that makes loading these slots the fewest copies.");
  py::class_<MovePlanner>(m, "MovePlanner", "From lists of blocks to the fewest copies.")
      .def(py::init([](const Table& regions, BlockId blocks) {
             return MovePlanner(to_layout(regions, blocks));
           }),
           py::arg("regions"), py::arg("blocks"))
      .def("plan", &plan, py::arg("blocks"), py::arg("slots"), py::arg("host"),
           py::arg("host_rows"), py::arg("direction"),
           "Copies between blocks and the slots of an extent, as rows of (source, target, bytes). "
           "The array is the planner's memory: valid until the next call.");
  m.def("why_no_cuda", &why_no_cuda, "Empty if there is a CUDA device to use.");
  m.def("cuda_device_name", &cuda_device_name, py::arg("device"),
        "The device, its driver and where it is plugged in.");
  m.def("calibrate", &calibrate_copies, py::kw_only(), py::arg("threads") = 1,
        py::arg("cuda_device") = py::none(), py::arg("scratch") = 0,
        py::arg("scratch_bytes") = 128 << 20,
        "Measures copies for the Mover that has these options, in some tenths of a second: what to "
        "give it as `calibration`, and (page bytes, stores, loads) of scattered pages in bytes per "
        "second. `scratch`: with `cuda_device`, device memory that nobody uses; overwritten.");
}
