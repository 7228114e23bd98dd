// SPDX-License-Identifier: Apache-2.0
#pragma once

// A stroke font of our own for ASCII, drawn like the lettering of technical drawings: each glyph is the path of a pen.
// Capitals are 20 units high, small letters 14, descenders reach -6; y points up from the base line.
//
//   M x y        lifts the pen and puts it down there       L x y        draws a straight line to there
//   h x y        draws a quarter of an ellipse that leaves horizontally and arrives vertically
//   v x y        draws a quarter of an ellipse that leaves vertically and arrives horizontally
//   q a b x y    draws a parabola towards (a, b) that ends at (x, y)

#include <array>
#include <string_view>

namespace examples {

struct glyph {
  double width;  // of the path; the pen's thickness and the space to the neighbours come on top
  std::string_view path;
};

inline constexpr double glyph_space = 5.4;  // between two glyphs, from path to path
inline constexpr double capital_height = 20;

/// The glyphs of the characters 32 to 126.
inline constexpr std::array<glyph, 95> glyphs{{
    {3, ""},                                                                                               // space
    {0, "M0 20 L0 6 M0 0 L0 0"},                                                                           // !
    {5, "M0 20 L0 14 M5 20 L5 14"},                                                                        // "
    {15, "M3 0 L6 20 M9 0 L12 20 M0 6.5 L14 6.5 M1 13.5 L15 13.5"},                                        // #
    {12, "M12 15.5 v6 18.5 h0 14.2 v6 10 h12 5.8 v6 1.5 h0 4.5 M6 22 L6 -2"},                              // $
    {16, "M15 20 L1 0 M0 16 v3.5 20 h7 16 v3.5 12 h0 16 M9 4 v12.5 8 h16 4 v12.5 0 h9 4"},                 // %
    {14, "M14 0 L2.4 13 q1 14.6 1 16 v5 20 h9 16 q9 13.6 5.5 11.4 L3.4 10 q0 8 0 5 v5.5 0 q11 0 13.5 9"},  // &
    {0, "M0 20 L0 14"},                                                                                    // '
    {4, "M4 23 q0 18 0 9 q0 0 4 -5"},                                                                      // (
    {4, "M0 23 q4 18 4 9 q4 0 0 -5"},                                                                      // )
    {9, "M4.5 20 L4.5 10 M0.2 17.5 L8.8 12.5 M0.2 12.5 L8.8 17.5"},                                        // *
    {11, "M5.5 3.5 L5.5 14.5 M0 9 L11 9"},                                                                 // +
    {1, "M1 0.5 L0 -4"},                                                                                   // ,
    {7, "M0 8 L7 8"},                                                                                      // -
    {0, "M0 0 L0 0"},                                                                                      // .
    {9, "M0 -3 L9 23"},                                                                                    // /
    {11, "M0 6.5 L0 13.5 v5.5 20 h11 13.5 L11 6.5 v5.5 0 h0 6.5"},                                         // 0
    {11, "M2 16 L6.5 20 L6.5 0"},                                                                          // 1
    {11, "M0.3 15 v5.5 20 h10.7 14.8 q10.7 12 8.2 9.4 L0 0 L11 0"},                                        // 2
    {11, "M0.5 16 v5 20 h10.2 15.5 v5 11 L4 11 M5 11 h11 5.5 v5.3 0 h0 4.5"},                              // 3
    {11, "M8.5 0 L8.5 20 L0 5.5 L11 5.5"},                                                                 // 4
    {11, "M10 20 L1.8 20 L0.8 11 q3 12.8 5.5 12.8 h11 6.5 v5.3 0 h0 4"},                                   // 5
    {11, "M9.8 18.8 q8.2 20 6.3 20 h0 11 L0 6.4 v5.5 0 h11 6.4 v5.5 12.6 h0 6.4"},                         // 6
    {11, "M0 20 L11 20 L4 0"},                                                                             // 7
    {11, "M5.5 11 h0.6 15.5 v5.5 20 h10.4 15.5 v5.5 11 h0 5.5 v5.5 0 h11 5.5 v5.5 11"},                    // 8
    {11, "M1.2 1.2 q2.8 0 4.7 0 h11 9 L11 13.6 v5.5 20 h0 13.6 v5.5 7.4 h11 13.6"},                        // 9
    {0, "M0 0 L0 0 M0 12 L0 12"},                                                                          // :
    {1, "M1 12 L1 12 M1 0.5 L0 -4"},                                                                       // ;
    {10, "M10 15 L0 9 L10 3"},                                                                             // <
    {11, "M0 12 L11 12 M0 6 L11 6"},                                                                       // =
    {10, "M0 15 L10 9 L0 3"},                                                                              // >
    {10, "M0 15.5 v5 20 h10 15 q10 12.4 7.4 10.6 q5 9 5 6 M5 0 L5 0"},                                     // ?
    {18, "M5 8.5 v9 13 h13 8.5 v9 4 h5 8.5 M13 13 L13 6.5 v15.5 4 h18 9 v9 19 h0 8 v9 -3 q12 -3 14 -2"},   // @
    {14, "M0 0 L7 20 L14 0 M2.3 6.5 L11.7 6.5"},                                                           // A
    {12, "M0 0 L0 20 L6.5 20 h11 15.5 v6.5 11 L0 11 M6.5 11 h12 5.5 v6.5 0 L0 0"},                         // B
    {13, "M13 15.5 v7 20 h0 13 L0 7 v7 0 h13 4.5"},                                                        // C
    {13, "M0 0 L0 20 L5.5 20 h13 12.5 L13 7.5 v5.5 0 L0 0"},                                               // D
    {10, "M10 20 L0 20 L0 0 L10 0 M0 10.5 L9 10.5"},                                                       // E
    {10, "M10 20 L0 20 L0 0 M0 10.5 L9 10.5"},                                                             // F
    {13, "M13 15.5 v7 20 h0 13 L0 7 v7 0 h13 7 L13 9.5 L7.5 9.5"},                                         // G
    {13, "M0 0 L0 20 M13 0 L13 20 M0 10.5 L13 10.5"},                                                      // H
    {0, "M0 0 L0 20"},                                                                                     // I
    {9, "M9 20 L9 5.5 v4.5 0 h0 4.5"},                                                                     // J
    {12, "M0 0 L0 20 M12 20 L0 8 M4.5 12.5 L12.5 0"},                                                      // K
    {10, "M0 20 L0 0 L10 0"},                                                                              // L
    {16, "M0 0 L0 20 L8 6 L16 20 L16 0"},                                                                  // M
    {13, "M0 0 L0 20 L13 0 L13 20"},                                                                       // N
    {14, "M0 7 L0 13 v7 20 h14 13 L14 7 v7 0 h0 7"},                                                       // O
    {12, "M0 0 L0 20 L6.5 20 h12 14.5 v6.5 9 L0 9"},                                                       // P
    {14, "M0 7 L0 13 v7 20 h14 13 L14 7 v7 0 h0 7 M8.5 5 L14.5 -1.5"},                                     // Q
    {12, "M0 0 L0 20 L6.5 20 h12 14.5 v6.5 9 L0 9 M6.5 9 L12.5 0"},                                        // R
    {12, "M11.8 16 v6 20 h0.4 15.3 v6 10.4 h12 5.2 v6 0 h0 4.2"},                                          // S
    {13, "M0 20 L13 20 M6.5 20 L6.5 0"},                                                                   // T
    {13, "M0 20 L0 6.5 v6.5 0 h13 6.5 L13 20"},                                                            // U
    {14, "M0 20 L7 0 L14 20"},                                                                             // V
    {20, "M0 20 L5 0 L10 16 L15 0 L20 20"},                                                                // W
    {13, "M0 20 L13 0 M13 20 L0 0"},                                                                       // X
    {13, "M0 20 L6.5 10 L13 20 M6.5 10 L6.5 0"},                                                           // Y
    {12, "M0 20 L12 20 L0 0 L12 0"},                                                                       // Z
    {4, "M4 23 L0 23 L0 -5 L4 -5"},                                                                        // [
    {9, "M0 23 L9 -3"},                                                                                    // backslash
    {4, "M0 23 L4 23 L4 -5 L0 -5"},                                                                        // ]
    {10, "M0 12 L5 20 L10 12"},                                                                            // ^
    {12, "M0 -3 L12 -3"},                                                                                  // _
    {3, "M0 20 L3 16.5"},                                                                                  // `
    {9.5, "M0.8 11.8 v5 14 h9.5 9.4 L9.5 0 M9.5 8.2 L5 8.2 h0 4.2 v4.4 0 h9.5 4.2"},                       // a
    {10, "M0 20 L0 0 M0 9 v5 14 h10 9 L10 5 v5 0 h0 5"},                                                   // b
    {9, "M9 10.8 v5 14 h0 9 L0 5 v5 0 h9 3.2"},                                                            // c
    {10, "M10 20 L10 0 M10 9 v5 14 h0 9 L0 5 v5 0 h10 5"},                                                 // d
    {10, "M0 7.2 L10 7.2 L10 9 v5 14 h0 9 L0 5 v5.2 0 h9.6 2.6"},                                          // e
    {7, "M7 20 L6.5 20 h2.8 16 L2.8 0 M0 13.6 L6.5 13.6"},                                                 // f
    {10, "M10 9 v5 14 h0 9 L0 5 v5 0 h10 5 M10 14 L10 -1.5 v5 -6 h0.8 -3.8"},                              // g
    {10, "M0 0 L0 20 M0 9 v5 14 h10 9 L10 0"},                                                             // h
    {0, "M0 0 L0 14 M0 19.2 L0 19.2"},                                                                     // i
    {3, "M3 14 L3 -2.5 v0 -6 M3 19.2 L3 19.2"},                                                            // j
    {9, "M0 0 L0 20 M9 14 L0 5 M3.4 8.4 L9.5 0"},                                                          // k
    {3, "M0 20 L0 4 v3 0"},                                                                                // l
    {16, "M0 0 L0 14 M0 10 v4.2 14 h8 10 L8 0 M8 10 v12.2 14 h16 10 L16 0"},                               // m
    {10, "M0 0 L0 14 M0 9 v5 14 h10 9 L10 0"},                                                             // n
    {10.5, "M0 5 L0 9 v5.2 14 h10.5 9 L10.5 5 v5.2 0 h0 5"},                                               // o
    {10, "M0 14 L0 -6 M0 9 v5 14 h10 9 L10 5 v5 0 h0 5"},                                                  // p
    {10, "M10 14 L10 -6 M10 9 v5 14 h0 9 L0 5 v5 0 h10 5"},                                                // q
    {6, "M0 0 L0 14 M0 9 v5 14 L6 14"},                                                                    // r
    {9, "M8.7 11.4 v4.4 14 h0.4 10.6 v4.5 7.3 h9 3.6 v4.4 0 h0 2.8"},                                      // s
    {7, "M2.8 18.5 L2.8 4 v6 0 L7 0 M0 13.6 L6.8 13.6"},                                                   // t
    {10, "M0 14 L0 5 v5 0 h10 5 M10 14 L10 0"},                                                            // u
    {10, "M0 14 L5 0 L10 14"},                                                                             // v
    {16, "M0 14 L4 0 L8 11.5 L12 0 L16 14"},                                                               // w
    {10, "M0 14 L10 0 M10 14 L0 0"},                                                                       // x
    {10, "M0 14 L5 0 M10 14 L4 -3 q3 -6 0.5 -6"},                                                          // y
    {9, "M0 14 L9 14 L0 0 L9 0"},                                                                          // z
    {5, "M5 23 h2.5 19.5 L2.5 12.5 v0 9 h2.5 5.5 L2.5 -1.5 v5 -5"},                                        // {
    {0, "M0 23 L0 -5"},                                                                                    // |
    {5, "M0 23 h2.5 19.5 L2.5 12.5 v5 9 h2.5 5.5 L2.5 -1.5 v0 -5"},                                        // }
    {13, "M0 7.5 q1.2 11 4 11 q5.6 11 6.5 9.4 q7.6 7.6 9.3 7.6 q12 7.6 13 11"},                            // ~
}};

}  // namespace examples
