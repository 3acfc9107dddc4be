#include "emulator.h"

#include <algorithm>

#include "report.h"

namespace simt {
namespace {

size_t count(Index3 extent) {
    return size_t(extent.x) * extent.y * extent.z;
}

}  // namespace

bool Emulator::run(const Launch &launch, const Schedule &schedule, std::string &report) {
    this->schedule = schedule;
    this->report = &report;
    prepare();
    line_up(launch);
    make_slots(launch);
    run_to_end();
    current = nullptr;
    return !failed;
}

// Forgets the last run, whose threads are not resumed if it failed.
void Emulator::prepare() {
    failed = false;
    spins = 0;
    started = 0;
    waiting.clear();
    for (auto &slot : slots) slot->live = 0;
    copies.clear();
    accesses.forget();
    turns.start(schedule.seed);
}

// Adds the launch's blocks to those that wait, in an order that is drawn.
void Emulator::line_up(const Launch &launch) {
    const size_t blocks = count(launch.grid), before = waiting.size();
    waiting.resize(before + blocks);
    for (size_t block = 0; block < blocks; block++) {
        Waiting &own = waiting[before + block], &other = waiting[before + turns.below(uint32_t(block + 1))];
        own = other;
        other = {&launch, uint32_t(block)};
    }
}

// Makes room for the blocks that are resident together, and starts them.
void Emulator::make_slots(const Launch &launch) {
    const size_t threads = count(launch.block);
    const size_t resident =
        schedule.resident_blocks ? schedule.resident_blocks : std::max<size_t>(2, RESIDENT_THREADS / threads);
    const size_t wanted = std::min(resident, waiting.size());
    while (slots.size() < wanted) slots.push_back(std::make_unique<Block>());
    turns.make_room(wanted * ((threads + WARP_LANES - 1) / WARP_LANES), wanted * threads);
    for (size_t slot = 0; slot < wanted; slot++) admit(*slots[slot]);
    if (schedule.access_interval) draw_pause();
}

void Emulator::run_to_end() {
    while (Thread *next = next_thread()) {
        current = next;
        switch_to(context, current->fiber.context, false);
        // The thread that came back is the last one that ran.
        if (!failed && current->block->live == 0) replace(*current->block);
        if (failed) return;
    }
    for (auto &slot : slots) {
        if (slot->live == 0) continue;
        report_failure(*slot, describe_deadlock(*slot).c_str(), "");
        return;
    }
}

// Starts the next waiting block, if there is one, in the place of one that has ended.
void Emulator::replace(Block &block) {
    if (block.copies > 0) {
        const std::string found = "a block ended while " + std::to_string(block.copies) + " copies were in flight";
        report_failure(block, found.c_str(), "");
    } else if (!waiting.empty()) {
        admit(block);
    }
}

void Emulator::report_failure(const Block &block, const char *what, const char *where) {
    report->append(block.launch->kernel).append(": ").append(what).append(where);
    failed = true;
}

}  // namespace simt
