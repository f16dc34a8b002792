// Defines what the program has, for others to see.
namespace tanren {
__attribute__((visibility("default"))) void RegisterStages() {}
}  // namespace tanren
